/** Passes bytes of a message body on, in the framing of the other side. Framing is written anew, never copied. */
import type { MessageBody } from '../http/body.ts';
import { FieldIndex } from '../http/fields.ts';
import { BODY } from '../http/head.ts';
import { trailersRoom, writeChunkHeader, writeLastChunk } from '../http/write.ts';
import type { ConnectionId, Engine } from '../native/engine.ts';

/** What `writeChunkHeader` needs at most. */
const CHUNK_HEADER_BYTES = 16;

const CR = 0x0d;
const LF = 0x0a;

const NO_TRAILERS = new FieldIndex();

/**
 * Passes on what belongs to the body, and says in `body.done` when that was all of it.
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
  sendData(engine, bytes, from, end, target, chunked);
  return end;
}

/** Ends a body that is sent in chunks. */
export function endChunks(engine: Engine, target: ConnectionId, trailers: FieldIndex = NO_TRAILERS): void {
  const at = engine.reserve(trailersRoom(trailers));
  engine.sendBuilt(target, writeLastChunk(trailers, engine.slab, at));
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
    sendData(engine, bytes, chunks.dataStart, chunks.dataEnd, target, chunked);
  }
  body.done = chunks.done;
  if (body.done && chunked) endChunks(engine, target, chunks.trailers);
  return at;
}

function sendData(
  engine: Engine,
  bytes: Uint8Array,
  from: number,
  to: number,
  target: ConnectionId,
  chunked: boolean,
): void {
  if (from === to) return;
  if (chunked) return sendChunk(engine, bytes, from, to, target);
  if (!engine.isSending(target)) return sendAsIs(engine, bytes, from, to, target);
  // Copied behind what is being sent already, so that it leaves in one piece with it.
  const at = engine.reserve(to - from);
  engine.sendBuilt(target, copy(engine.slab, at, bytes, from, to));
}

function sendAsIs(engine: Engine, bytes: Uint8Array, from: number, to: number, target: ConnectionId): void {
  if (bytes === engine.slab) engine.sendRange(target, from, to - from);
  else engine.send(target, bytes.subarray(from, to));
}

function sendChunk(engine: Engine, bytes: Uint8Array, from: number, to: number, target: ConnectionId): void {
  const { slab } = engine;
  let at = engine.reserve(to - from + CHUNK_HEADER_BYTES + 2);
  at = writeChunkHeader(to - from, slab, at);
  at = copy(slab, at, bytes, from, to);
  slab[at++] = CR;
  slab[at++] = LF;
  engine.sendBuilt(target, at);
}

function copy(slab: Uint8Array, at: number, bytes: Uint8Array, from: number, to: number): number {
  if (bytes === slab) slab.copyWithin(at, from, to);
  else slab.set(bytes.subarray(from, to), at);
  return at + to - from;
}
