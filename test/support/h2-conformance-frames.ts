/** Sections 3, 4, 6 and 7 of h2spec's http2 group: the preface and single frames. */
import { FLAG, FRAME, H2_ERROR, SETTING } from '../../proxy/http/h2/frames.ts';
import {
  block,
  continuation,
  data,
  frame,
  GET,
  goAway,
  type H2Tester,
  headers,
  headersBegin,
  join,
  type PlainField,
  POST,
  ping,
  priority,
  rstStream,
  settings,
  windowUpdate,
} from './h2.ts';
import { type ConformanceCase, conformanceCase as of } from './h2-conformance.ts';

const { protocolError, frameSizeError, flowControlError, compressionError, streamClosed } = H2_ERROR;
const EXTRA: readonly PlainField[] = [['x-dummy', 'dummy']];
const LARGEST = 2 ** 31 - 1;

/** What ends the connection with one of the codes. */
function fatal(section: string, name: string, bytes: Uint8Array, ...codes: number[]): ConformanceCase {
  return of(section, name, async (peer) => {
    peer.send(bytes);
    await peer.connectionError(...codes);
  });
}

/** Sends one byte of an answer and no more, as the window says. */
async function oneByte(peer: H2Tester): Promise<void> {
  const { payload } = await peer.data(1);
  if (payload.length !== 1) throw new Error(`${payload.length} bytes of content came through a window of 1`);
}

const PREFACE: readonly ConformanceCase[] = [
  {
    section: '3.5',
    name: 'SETTINGS is the first frame of a server',
    run: async (peer) => {
      await peer.handshake();
    },
  },
  {
    section: '3.5',
    name: 'an invalid preface',
    run: async (peer) => {
      peer.send(new Uint8Array(Buffer.from('INVALID CONNECTION PREFACE\r\n\r\n')));
      await peer.closed();
    },
  },
];

const FORMAT: readonly ConformanceCase[] = [
  of('4.1', 'a frame of an unknown type', async (peer) => {
    peer.send(frame(0x16, 0, 0, new Uint8Array(8)));
    await peer.alive();
  }),
  of('4.1', 'a flag that is not defined', async (peer) => {
    peer.send(frame(FRAME.ping, 0x16, 0, new Uint8Array(8)));
    await peer.expect('the answer to PING', ({ type, flags }) => type === FRAME.ping && flags === FLAG.ack);
  }),
  of('4.1', 'the reserved bit', async (peer) => {
    peer.send(frame(FRAME.ping, 0, 2 ** 31, new Uint8Array(8)));
    await peer.expect('the answer to PING', ({ type, flags }) => type === FRAME.ping && flags === FLAG.ack);
  }),
  of('4.2', 'DATA of 2^14 bytes', async (peer) => {
    peer.send(headers(1, POST, false), data(1, new Uint8Array(16_384), true));
    await peer.streamClosed(1);
  }),
  of('4.2', 'DATA that is longer than SETTINGS_MAX_FRAME_SIZE', async (peer) => {
    peer.send(headers(1, POST, false), data(1, new Uint8Array(16_385), true));
    await peer.streamError(1, frameSizeError);
  }),
  fatal('4.2', 'HEADERS longer than that', headers(1, [...GET, ['x', 'y'.repeat(16_400)]]), frameSizeError),
  fatal('4.3', 'a header block that is cut off', headers(1, Uint8Array.of(0x40)), compressionError),
  fatal(
    '4.3',
    'PRIORITY within a header block',
    join(headersBegin(1, GET), priority(1, 0), continuation(1, EXTRA, true)),
    protocolError,
  ),
  fatal(
    '4.3',
    'HEADERS of another stream within a header block',
    join(headersBegin(1, GET), headers(3, GET), continuation(1, EXTRA, true)),
    protocolError,
  ),
];

const SHORT_RST = frame(FRAME.rstStream, 0, 1, new Uint8Array(3));

const SINGLE: readonly ConformanceCase[] = [
  fatal('6.1', 'DATA on stream 0', data(0, 'test', true), protocolError),
  of('6.1', 'DATA on a stream that is half-closed (remote)', async (peer) => {
    peer.send(headers(1, GET), data(1, 'test', true));
    await peer.streamError(1, streamClosed);
  }),
  fatal(
    '6.1',
    'DATA with more padding than bytes',
    join(headers(1, POST, false), frame(FRAME.data, FLAG.padded | FLAG.endStream, 1, '\x06test\0')),
    protocolError,
  ),
  fatal('6.2', 'HEADERS, then PRIORITY', join(headersBegin(1, GET), priority(1, 0, 256)), protocolError),
  fatal(
    '6.2',
    'HEADERS, then those of another stream',
    join(headersBegin(1, GET), headers(3, GET)),
    protocolError,
  ),
  fatal('6.2', 'HEADERS on stream 0', headers(0, GET), protocolError),
  fatal(
    '6.2',
    'HEADERS with more padding than bytes',
    frame(
      FRAME.headers,
      FLAG.endHeaders | FLAG.padded | FLAG.endStream,
      1,
      join(Uint8Array.of(255), block(GET)),
    ),
    protocolError,
  ),
  fatal('6.3', 'PRIORITY on stream 0', priority(0, 0, 256), protocolError),
  of('6.3', 'PRIORITY of 4 bytes', async (peer) => {
    peer.send(headers(1, POST, false), frame(FRAME.priority, 0, 1, '\x80\0\0\x01'));
    await peer.streamError(1, frameSizeError);
  }),
  fatal('6.4', 'RST_STREAM on stream 0', rstStream(0, H2_ERROR.cancel), protocolError),
  fatal('6.4', 'RST_STREAM on an idle stream', rstStream(1, H2_ERROR.cancel), protocolError),
  fatal('6.4', 'RST_STREAM of 3 bytes', join(headers(1, POST, false), SHORT_RST), frameSizeError),
  fatal('6.5', 'an acknowledgement with a payload', frame(FRAME.settings, FLAG.ack, 0, '\0'), frameSizeError),
  fatal('6.5', 'SETTINGS on a stream', frame(FRAME.settings, 0, 1, '\0\x03\0\0\0\x64'), protocolError),
  fatal('6.5', 'SETTINGS of 3 bytes', frame(FRAME.settings, 0, 0, '\0\x03\0'), frameSizeError),
  fatal('6.5.2', 'ENABLE_PUSH 2', settings([SETTING.enablePush, 2]), protocolError),
  fatal(
    '6.5.2',
    'INITIAL_WINDOW_SIZE 2^31',
    settings([SETTING.initialWindowSize, 2 ** 31]),
    flowControlError,
  ),
  fatal('6.5.2', 'MAX_FRAME_SIZE 2^14-1', settings([SETTING.maxFrameSize, 16_383]), protocolError),
  fatal('6.5.2', 'MAX_FRAME_SIZE 2^24', settings([SETTING.maxFrameSize, 16_777_216]), protocolError),
  of('6.5.2', 'an unknown setting', async (peer) => {
    peer.send(settings([0xff, 1]));
    await peer.settingsAcknowledged();
    await peer.alive();
  }),
  of('6.5.3', 'a setting that is there twice: the second counts', async (peer) => {
    peer.send(settings([SETTING.initialWindowSize, 100], [SETTING.initialWindowSize, 1]));
    await peer.settingsAcknowledged();
    peer.send(headers(1, GET));
    await oneByte(peer);
  }),
  of('6.5.3', 'SETTINGS is acknowledged', async (peer) => {
    peer.send(settings([SETTING.enablePush, 0]));
    await peer.settingsAcknowledged();
  }),
  of('6.7', 'PING is answered with the same bytes', (peer) => peer.alive('\0\xffh2spec')),
  of('6.7', 'an acknowledgement of PING is not answered', async (peer) => {
    peer.send(ping('unwanted', true), ping('h2spec!!'));
    const { payload } = await peer.expect('an answer to PING', ({ type }) => type === FRAME.ping);
    if (payload[0] !== 0x68) throw new Error('an acknowledgement was answered');
  }),
  fatal('6.7', 'PING on a stream', frame(FRAME.ping, 0, 1, new Uint8Array(8)), protocolError),
  fatal('6.7', 'PING of 6 bytes', frame(FRAME.ping, 0, 0, new Uint8Array(6)), frameSizeError),
  fatal('6.8', 'GOAWAY on a stream', frame(FRAME.goAway, 0, 1, new Uint8Array(8)), protocolError),
];

const WINDOWS: readonly ConformanceCase[] = [
  fatal('6.9', 'WINDOW_UPDATE of the connection by 0', windowUpdate(0, 0), protocolError),
  of('6.9', 'WINDOW_UPDATE of a stream by 0', async (peer) => {
    peer.send(headers(1, POST, false), windowUpdate(1, 0));
    await peer.streamError(1, protocolError);
  }),
  fatal('6.9', 'WINDOW_UPDATE of 3 bytes', frame(FRAME.windowUpdate, 0, 0, '\0\0\x01'), frameSizeError),
  of('6.9.1', 'no more content than the window of the stream allows', async (peer) => {
    peer.send(settings([SETTING.initialWindowSize, 1]));
    await peer.settingsAcknowledged();
    peer.send(headers(1, GET));
    await oneByte(peer);
  }),
  fatal(
    '6.9.1',
    'a window of the connection beyond 2^31-1',
    join(windowUpdate(0, LARGEST), windowUpdate(0, LARGEST)),
    flowControlError,
  ),
  of('6.9.1', 'a window of a stream beyond 2^31-1', async (peer) => {
    peer.send(headers(1, POST, false), windowUpdate(1, LARGEST), windowUpdate(1, LARGEST));
    await peer.streamError(1, flowControlError);
  }),
  of('6.9.2', 'INITIAL_WINDOW_SIZE changes streams that are open', async (peer) => {
    peer.send(settings([SETTING.initialWindowSize, 0]));
    await peer.settingsAcknowledged();
    peer.send(headers(1, GET), settings([SETTING.initialWindowSize, 1]));
    await oneByte(peer);
  }),
  of('6.9.2', 'windows can be negative', async (peer) => {
    peer.send(settings([SETTING.initialWindowSize, 3]));
    await peer.settingsAcknowledged();
    peer.send(headers(1, GET));
    await peer.data(1);
    peer.send(settings([SETTING.initialWindowSize, 2]));
    await peer.settingsAcknowledged();
    peer.send(windowUpdate(1, 2));
    await oneByte(peer);
  }),
  fatal(
    '6.9.2',
    'INITIAL_WINDOW_SIZE above 2^31-1',
    settings([SETTING.initialWindowSize, 2 ** 32 - 1]),
    flowControlError,
  ),
];

const CONTINUATIONS: readonly ConformanceCase[] = [
  of('6.10', 'several CONTINUATION frames', async (peer) => {
    peer.send(headersBegin(1, GET), continuation(1, EXTRA, false), continuation(1, EXTRA, true));
    await peer.head(1);
  }),
  fatal(
    '6.10',
    'CONTINUATION, then another frame',
    join(headersBegin(1, POST, false), continuation(1, EXTRA, false), data(1, 'test', true)),
    protocolError,
  ),
  fatal(
    '6.10',
    'CONTINUATION on stream 0',
    join(headersBegin(1, POST, false), continuation(0, EXTRA, true)),
    protocolError,
  ),
  fatal(
    '6.10',
    'CONTINUATION behind HEADERS with END_HEADERS',
    join(headers(1, POST, false), continuation(1, EXTRA, true)),
    protocolError,
  ),
  fatal(
    '6.10',
    'CONTINUATION behind CONTINUATION with END_HEADERS',
    join(headersBegin(1, POST, false), continuation(1, EXTRA, true), continuation(1, EXTRA, true)),
    protocolError,
  ),
  fatal(
    '6.10',
    'CONTINUATION behind DATA',
    join(headers(1, POST, false), data(1, 'test'), continuation(1, EXTRA, true)),
    protocolError,
  ),
];

const CODES: readonly ConformanceCase[] = [
  of('7', 'GOAWAY with an unknown code', async (peer) => {
    peer.send(goAway(0, 0xff), ping());
    await peer.closed();
  }),
  of('7', 'RST_STREAM with an unknown code', async (peer) => {
    peer.send(headers(1, POST, false), rstStream(1, 0xff));
    await peer.alive();
  }),
];

/** In the order of the sections. */
export const FRAMES: readonly ConformanceCase[] = [
  ...PREFACE,
  ...FORMAT,
  ...SINGLE,
  ...WINDOWS,
  ...CONTINUATIONS,
  ...CODES,
];
