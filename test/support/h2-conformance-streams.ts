/** Section 5 of h2spec's http2 group: states of streams, their identifiers, dependencies, errors and extensions. */
import { FLAG, FRAME, H2_ERROR, SETTING } from '../../proxy/http/h2/frames.ts';
import {
  block,
  continuation,
  data,
  frame,
  GET,
  headers,
  headersBegin,
  join,
  type PlainField,
  POST,
  priority,
  priorityFields,
  rstStream,
  settings,
  windowUpdate,
} from './h2.ts';
import { type ConformanceCase, conformanceCase as of } from './h2-conformance.ts';

const { protocolError, frameSizeError, streamClosed, refusedStream, cancel } = H2_ERROR;
const EXTRA: readonly PlainField[] = [['x-dummy', 'dummy']];

/** What must not be sent on an idle stream. */
function idle(name: string, bytes: Uint8Array, ...codes: number[]): ConformanceCase {
  return of('5.1', `idle: ${name}`, async (peer) => {
    peer.send(bytes);
    await peer.connectionError(...codes);
  });
}

/** What must not come behind other frames on stream 1. */
function later(
  state: string,
  first: Uint8Array,
  name: string,
  bytes: Uint8Array,
  ...codes: number[]
): ConformanceCase {
  return of('5.1', `${state}: ${name}`, async (peer) => {
    peer.send(first, bytes);
    await peer.streamError(1, ...codes);
  });
}

/** What must not come when stream 1 has ended on both sides. */
function closed(name: string, bytes: Uint8Array, ...codes: number[]): ConformanceCase {
  return of('5.1', `closed: ${name}`, async (peer) => {
    peer.send(headers(1, GET));
    await peer.streamClosed(1);
    peer.send(bytes);
    await peer.connectionError(...codes);
  });
}

const RESET = join(headers(1, POST, false), rstStream(1, cancel));

const STATES: readonly ConformanceCase[] = [
  idle('DATA', data(1, 'test', true), protocolError, streamClosed),
  idle('RST_STREAM', rstStream(1, cancel), protocolError),
  idle('WINDOW_UPDATE', windowUpdate(1, 100), protocolError),
  idle('CONTINUATION', continuation(1, GET, true), protocolError),
  later('half-closed (remote)', headers(1, GET), 'DATA', data(1, 'test', true), streamClosed),
  later('half-closed (remote)', headers(1, GET), 'HEADERS', headers(1, GET), streamClosed),
  later(
    'half-closed (remote)',
    headers(1, GET),
    'CONTINUATION',
    continuation(1, GET, true),
    streamClosed,
    protocolError,
  ),
  later('closed by RST_STREAM', RESET, 'DATA', data(1, 'test', true), streamClosed),
  later('closed by RST_STREAM', RESET, 'HEADERS', headers(1, GET), streamClosed),
  later(
    'closed by RST_STREAM',
    RESET,
    'CONTINUATION',
    continuation(1, EXTRA, true),
    streamClosed,
    protocolError,
  ),
  closed('DATA', data(1, 'test', true), streamClosed),
  closed('HEADERS', headers(1, GET), streamClosed),
  closed('CONTINUATION', continuation(1, EXTRA, true), streamClosed, protocolError),
];

/** In the order of the sections. */
export const STREAMS: readonly ConformanceCase[] = [
  ...STATES,
  of('5.1.1', 'an even stream identifier', async (peer) => {
    peer.send(headers(2, GET));
    await peer.connectionError(protocolError);
  }),
  of('5.1.1', 'a stream identifier that is lower than the one before', async (peer) => {
    peer.send(headers(5, GET), headers(3, GET));
    await peer.connectionError(protocolError);
  }),
  of('5.1.2', 'more streams than SETTINGS_MAX_CONCURRENT_STREAMS', async (peer) => {
    const most = peer.settings.get(SETTING.maxConcurrentStreams);
    if (most === undefined) throw new Error('the server does not limit streams');
    // Answers that cannot end keep the streams open.
    peer.send(settings([SETTING.initialWindowSize, 0]));
    for (let i = 0; i <= most; i++) peer.send(headers(2 * i + 1, GET));
    await peer.streamError(2 * most + 1, protocolError, refusedStream);
  }),
  of('5.3.1', 'HEADERS that depends on itself', async (peer) => {
    const flags = FLAG.endHeaders | FLAG.endStream | FLAG.priority;
    peer.send(frame(FRAME.headers, flags, 1, join(priorityFields(1, 256), block(GET))));
    await peer.streamError(1, protocolError);
  }),
  of('5.3.1', 'PRIORITY that depends on itself', async (peer) => {
    peer.send(priority(1, 1, 256));
    await peer.streamError(1, protocolError);
  }),
  of('5.4.1', 'an error of the connection closes it', async (peer) => {
    peer.send(frame(FRAME.ping, 0, 0, new Uint8Array(6)));
    await peer.closed();
  }),
  of('5.4.1', 'and is told by GOAWAY', async (peer) => {
    peer.send(frame(FRAME.ping, 0, 0, new Uint8Array(6)));
    await peer.connectionError(frameSizeError);
  }),
  of('5.5', 'a frame of an extension', async (peer) => {
    peer.send(frame(0xff, 0, 0, 'unknown!'));
    await peer.alive();
  }),
  of('5.5', 'such a frame within a header block', async (peer) => {
    peer.send(headersBegin(1, GET), frame(0xff, 0, 1, 'unknown!'), continuation(1, EXTRA, true));
    await peer.connectionError(protocolError);
  }),
];
