/** Passes bytes of a message body on, in the framing of the other side. Framing is written anew, never copied. */
import { FRAMING, type Framing, type MessageBody } from '../http/body.ts';
import type { ConnectionId, Engine } from '../native/engine.ts';

/** The longest size of a chunk we write, in hexadecimal digits, and what surrounds chunk and size. */
const CHUNK_OVERHEAD = 8 + 4;

const CRLF = Buffer.from('\r\n', 'latin1');
const LAST_CHUNK = Buffer.from('0\r\n', 'latin1');

/**
 * Passes on what belongs to the body, and says in `body.done` when that was all of it.
 * @param framing of what is sent: anything but chunked is sent as it is
 * @returns where the body ended, or below 0 for a problem (see problems.ts)
 */
export function passBody(
  engine: Engine,
  body: MessageBody,
  bytes: Uint8Array,
  from: number,
  to: number,
  target: ConnectionId,
  framing: Framing,
): number {
  if (body.framing === FRAMING.chunked) return passChunks(engine, body, bytes, from, to, target, framing);
  let end = to;
  if (body.framing === FRAMING.length) {
    end = Math.min(to, from + body.remaining);
    body.remaining -= end - from;
    body.done = body.remaining === 0;
  }
  if (end > from) {
    if (framing === FRAMING.chunked) sendChunk(engine, bytes, from, end, target);
    else sendBytes(engine, bytes, from, end, target);
  }
  return end;
}

/** Ends a body that is sent in chunks and did not come in chunks. */
export function endChunks(engine: Engine, target: ConnectionId): void {
  engine.send(target, LAST_CHUNK);
  engine.send(target, CRLF);
}

function passChunks(
  engine: Engine,
  body: MessageBody,
  bytes: Uint8Array,
  from: number,
  to: number,
  target: ConnectionId,
  framing: Framing,
): number {
  const { chunks } = body;
  let at = from;
  while (at < to && !chunks.done) {
    const next = chunks.next(bytes, at, to);
    if (next < 0) return next;
    if (chunks.dataEnd > chunks.dataStart) {
      if (framing === FRAMING.chunked) sendChunk(engine, bytes, chunks.dataStart, chunks.dataEnd, target);
      else sendBytes(engine, bytes, chunks.dataStart, chunks.dataEnd, target);
    }
    at = next;
  }
  if (!chunks.done) return at;
  body.done = true;
  if (framing === FRAMING.chunked) {
    engine.send(target, LAST_CHUNK);
    engine.send(target, chunks.trailers());
    engine.send(target, CRLF);
  }
  return at;
}

function sendChunk(
  engine: Engine,
  bytes: Uint8Array,
  from: number,
  to: number,
  target: ConnectionId,
): void {
  const { slab } = engine;
  const length = to - from;
  let at = engine.reserve(length + CHUNK_OVERHEAD);
  at = writeHex(slab, at, length);
  slab[at++] = 0x0d;
  slab[at++] = 0x0a;
  at = copy(slab, at, bytes, from, to);
  slab[at++] = 0x0d;
  slab[at++] = 0x0a;
  engine.sendBuilt(target, at);
}

/** Copied behind what is being sent already, so that it leaves in one piece with it; or sent from where it is. */
function sendBytes(
  engine: Engine,
  bytes: Uint8Array,
  from: number,
  to: number,
  target: ConnectionId,
): void {
  if (!engine.isSending(target)) {
    if (bytes === engine.slab) engine.sendRange(target, from, to - from);
    else engine.send(target, bytes.subarray(from, to));
    return;
  }
  const at = engine.reserve(to - from);
  engine.sendBuilt(target, copy(engine.slab, at, bytes, from, to));
}

function copy(slab: Uint8Array, at: number, bytes: Uint8Array, from: number, to: number): number {
  if (bytes === slab) slab.copyWithin(at, from, to);
  else slab.set(bytes.subarray(from, to), at);
  return at + to - from;
}

function writeHex(slab: Uint8Array, at: number, value: number): number {
  let digits = 1;
  for (let rest = value >>> 4; rest > 0; rest >>>= 4) digits++;
  for (let place = digits - 1; place >= 0; place--) {
    const digit = (value >>> (4 * place)) & 15;
    slab[at++] = digit < 10 ? 0x30 + digit : 0x57 + digit;
  }
  return at;
}
