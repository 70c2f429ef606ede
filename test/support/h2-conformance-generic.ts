/** What every server accepts: h2spec's generic group. */
import { FLAG, FRAME, H2_ERROR, SETTING } from '../../proxy/http/h2/frames.ts';
import {
  block,
  changed,
  clientStart,
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
  priorityFields,
  rstStream,
  settings,
  windowUpdate,
} from './h2.ts';
import { type ConformanceCase, conformanceCase as of } from './h2-conformance.ts';

const END_OF_BOTH = FLAG.endStream | FLAG.endHeaders;
const EXTRA: readonly PlainField[] = [['x-dummy', 'dummy']];

async function answered(peer: H2Tester, stream = 1): Promise<void> {
  await peer.head(stream);
  await peer.streamClosed(stream);
}

/** Stream 1 has been asked for, and its answer cannot end for want of a window. */
async function waiting(peer: H2Tester): Promise<void> {
  peer.send(settings([SETTING.initialWindowSize, 0]), headers(1, GET));
  await peer.head(1);
}

/** A request whose block is that of GET with something before or behind it. */
function withBlock(name: string, before: string, behind = ''): ConformanceCase {
  const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'));
  return of('5', name, async (peer) => {
    peer.send(headers(1, join(bytes(before), block(GET), bytes(behind))));
    await answered(peer);
  });
}

/** In the order of the sections. */
export const GENERIC: readonly ConformanceCase[] = [
  { section: '1', name: 'the preface of a client', run: (peer) => peer.handshake() },
  {
    section: '1',
    name: 'a request right behind the preface',
    run: async (peer) => {
      peer.send(clientStart(), headers(1, GET));
      await answered(peer);
    },
  },
  of('2', 'PRIORITY on an idle stream', async (peer) => {
    peer.send(priority(1, 0, 256));
    await peer.alive();
  }),
  of('2', 'WINDOW_UPDATE on a half-closed (remote) stream', async (peer) => {
    await waiting(peer);
    peer.send(windowUpdate(1, 1));
    await peer.data(1);
  }),
  of('2', 'PRIORITY on a half-closed (remote) stream', async (peer) => {
    await waiting(peer);
    peer.send(priority(1, 0, 256), windowUpdate(1, 1));
    await peer.data(1);
  }),
  of('2', 'RST_STREAM on a half-closed (remote) stream', async (peer) => {
    peer.send(headers(1, GET), rstStream(1, H2_ERROR.cancel));
    await peer.alive();
  }),
  of('2', 'PRIORITY on a closed stream', async (peer) => {
    peer.send(headers(1, GET));
    await peer.streamClosed(1);
    peer.send(priority(1, 0, 256));
    await peer.alive();
  }),
  of('3.1', 'a DATA frame', async (peer) => {
    peer.send(headers(1, POST, false), data(1, 'test', true));
    await answered(peer);
  }),
  of('3.1', 'several DATA frames', async (peer) => {
    peer.send(headers(1, POST, false), data(1, 'test'), data(1, 'test', true));
    await answered(peer);
  }),
  of('3.1', 'a DATA frame with padding', async (peer) => {
    peer.send(
      headers(1, POST, false),
      frame(FRAME.data, FLAG.padded | FLAG.endStream, 1, '\x06test\0\0\0\0\0\0'),
    );
    await answered(peer);
  }),
  of('3.2', 'a HEADERS frame', async (peer) => {
    peer.send(headers(1, GET));
    await answered(peer);
  }),
  of('3.2', 'a HEADERS frame with padding', async (peer) => {
    const payload = join(Uint8Array.of(6), block(GET), new Uint8Array(6));
    peer.send(frame(FRAME.headers, END_OF_BOTH | FLAG.padded, 1, payload));
    await answered(peer);
  }),
  of('3.2', 'a HEADERS frame with priority', async (peer) => {
    peer.send(frame(FRAME.headers, END_OF_BOTH | FLAG.priority, 1, join(priorityFields(0, 256), block(GET))));
    await answered(peer);
  }),
  ...[
    ['of priority 1', 0, 1, false],
    ['of priority 256', 0, 256, false],
    ['that depends on a stream', 3, 256, false],
    ['that is exclusive', 0, 256, true],
  ].map(([name, dependsOn, weight, exclusive]) =>
    of('3.3', `a PRIORITY frame ${name}`, async (peer) => {
      peer.send(priority(1, Number(dependsOn), Number(weight), exclusive === true), headers(1, GET));
      await answered(peer);
    }),
  ),
  of('3.3', 'a PRIORITY frame on an idle stream, then HEADERS on a lower one', async (peer) => {
    peer.send(priority(3, 0, 256), headers(1, GET));
    await answered(peer);
  }),
  of('3.4', 'a RST_STREAM frame', async (peer) => {
    peer.send(headers(1, POST, false), rstStream(1, H2_ERROR.cancel));
    await peer.alive();
  }),
  of('3.5', 'a SETTINGS frame', async (peer) => {
    peer.send(settings([SETTING.maxConcurrentStreams, 100]));
    await peer.settingsAcknowledged();
  }),
  of('3.7', 'a PING frame', (peer) => peer.alive('h2 pings')),
  of('3.8', 'a GOAWAY frame', async (peer) => {
    peer.send(goAway(0, H2_ERROR.noError, 'conformance'), ping());
    await peer.closed();
  }),
  of('3.9', 'a WINDOW_UPDATE frame of the connection', async (peer) => {
    peer.send(windowUpdate(0, 1));
    await peer.alive();
  }),
  of('3.9', 'a WINDOW_UPDATE frame of a stream', async (peer) => {
    await waiting(peer);
    peer.send(windowUpdate(1, 1));
    await peer.data(1);
  }),
  of('3.10', 'a CONTINUATION frame', async (peer) => {
    peer.send(headersBegin(1, GET), continuation(1, EXTRA, true));
    await answered(peer);
  }),
  of('3.10', 'several CONTINUATION frames', async (peer) => {
    peer.send(headersBegin(1, GET), continuation(1, EXTRA, false), continuation(1, EXTRA, true));
    await answered(peer);
  }),
  of('4', 'a GET request', async (peer) => {
    peer.send(headers(1, GET));
    await answered(peer);
  }),
  of('4', 'a HEAD request', async (peer) => {
    peer.send(headers(1, changed(GET, ':method', 'HEAD')));
    await peer.head(1);
  }),
  of('4', 'a POST request', async (peer) => {
    peer.send(headers(1, POST, false), data(1, 'test', true));
    await answered(peer);
  }),
  of('4', 'a POST request with trailers', async (peer) => {
    peer.send(
      headers(1, [...POST, ['trailer', 'x-test']], false),
      data(1, 'test'),
      headers(1, [['x-test', 'ok']]),
    );
    await answered(peer);
  }),
  withBlock('an indexed field', '', '90'),
  withBlock('a literal with indexing, of a name in the table', '', '7a06683273706563'),
  withBlock('the same with Huffman coding', '', '7a849c48aca4'),
  withBlock('a literal with indexing, of a new name', '', '4006782d7465737406683273706563'),
  withBlock('the same with Huffman coding', '', '4085f2b24a84ff849c48aca4'),
  withBlock('a literal without indexing, of a name in the table', '', '0f2b06683273706563'),
  withBlock('the same with Huffman coding', '', '0f2b849c48aca4'),
  withBlock('a literal without indexing, of a new name', '', '0006782d7465737406683273706563'),
  withBlock('the same with Huffman coding', '', '0085f2b24a84ff849c48aca4'),
  withBlock('a literal that is never indexed, of a name in the table', '', '1f2b06683273706563'),
  withBlock('the same with Huffman coding', '', '1f2b849c48aca4'),
  withBlock('a literal that is never indexed, of a new name', '', '1006782d7465737406683273706563'),
  withBlock('the same with Huffman coding', '', '1085f2b24a84ff849c48aca4'),
  withBlock('a table size update', '20'),
  withBlock('several table size updates', '3f613fe11f'),
];
