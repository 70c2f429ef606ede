/** Passes bytes of a message body on, in the framing of the other side. Framing is written anew, never copied. */
import type { MessageBody } from '../http/body.ts';
import { FieldIndex } from '../http/fields.ts';
import { BODY } from '../http/head.ts';
import { trailersRoom, writeChunkHeader, writeLastChunk } from '../http/write.ts';
import type { ConnectionId, Engine } from '../native/engine.ts';

/** What `writeChunkHeader` needs at most. */
const CHUNK_HEADER_BYTES = 16;

/** What is less comes in a few reads, which cost no more than telling the engine, and hearing of it. */
const MIN_PASSED = 64 * 1024;

const CR = 0x0d;
const LF = 0x0a;

const NO_TRAILERS = new FieldIndex();

/**
 * Passes on what belongs to the body, counts in `body.handed` what that became, and says in `body.done` when it was all.
 * @param chunked send it in chunks; as it is otherwise
 * @returns where the body ended, or below 0 for a problem (see problems.ts)
 */
export function passBody(
  engine: Engine,
  body: MessageBody,
  bytes: Uint8Array,
  from: number,
  to: number,
  target: ConnectionId,
  chunked: boolean,
): number {
  if (body.kind === BODY.chunked) return passChunks(engine, body, bytes, from, to, target, chunked);
  let end = to;
  if (body.kind === BODY.length) {
    end = Math.min(to, from + body.remaining);
    body.remaining -= end - from;
    body.done = body.remaining === 0;
  }
  body.content += end - from;
  body.handed += sendData(engine, bytes, from, end, target, chunked);
  return end;
}

/**
 * Leaves the rest of a long body to the engine, which moves it in larger pieces and without a word. Only for a body that goes on
 * as it comes, from a connection that is linked to its receiver.
 */
export function passRest(engine: Engine, body: MessageBody, source: ConnectionId): void {
  if (body.kind !== BODY.length || (body.remaining < MIN_PASSED && !body.passing)) return;
  // Once more after bytes that were on their way already.
  body.passing = body.remaining > 0;
  engine.pass(source, body.remaining);
}

/** Ends a body that is sent in chunks. @returns bytes that were handed to the engine */
export function endChunks(engine: Engine, target: ConnectionId, trailers: FieldIndex = NO_TRAILERS): number {
  const at = engine.reserve(trailersRoom(trailers));
  const end = writeLastChunk(trailers, engine.slab, at);
  engine.sendBuilt(target, end);
  return end - at;
}

function passChunks(
  engine: Engine,
  body: MessageBody,
  bytes: Uint8Array,
  from: number,
  to: number,
  target: ConnectionId,
  chunked: boolean,
): number {
  const { chunks } = body;
  let at = from;
  while (at < to && !chunks.done) {
    at = chunks.next(bytes, at, to);
    if (at < 0) return at;
    body.content += chunks.dataEnd - chunks.dataStart;
    body.handed += sendData(engine, bytes, chunks.dataStart, chunks.dataEnd, target, chunked);
  }
  body.done = chunks.done;
  if (body.done && chunked) body.handed += endChunks(engine, target, chunks.trailers);
  return at;
}

function sendData(
  engine: Engine,
  bytes: Uint8Array,
  from: number,
  to: number,
  target: ConnectionId,
  chunked: boolean,
): number {
  if (from === to) return 0;
  if (chunked) return sendChunk(engine, bytes, from, to, target);
  if (engine.isSending(target)) {
    // Copied behind what is being sent already, so that it leaves in one piece with it.
    const at = engine.reserve(to - from);
    engine.sendBuilt(target, copy(engine.slab, at, bytes, from, to));
  } else sendAsIs(engine, bytes, from, to, target);
  return to - from;
}

function sendAsIs(engine: Engine, bytes: Uint8Array, from: number, to: number, target: ConnectionId): void {
  if (bytes === engine.slab) engine.sendRange(target, from, to - from);
  else engine.send(target, bytes.subarray(from, to));
}

function sendChunk(
  engine: Engine,
  bytes: Uint8Array,
  from: number,
  to: number,
  target: ConnectionId,
): number {
  const { slab } = engine;
  const start = engine.reserve(to - from + CHUNK_HEADER_BYTES + 2);
  let at = writeChunkHeader(to - from, slab, start);
  at = copy(slab, at, bytes, from, to);
  slab[at++] = CR;
  slab[at++] = LF;
  engine.sendBuilt(target, at);
  return at - start;
}

function copy(slab: Uint8Array, at: number, bytes: Uint8Array, from: number, to: number): number {
  if (bytes === slab) slab.copyWithin(at, from, to);
  else slab.set(bytes.subarray(from, to), at);
  return at + to - from;
}
