/** HTTP/1 bodies: read from one connection, and written to another in whatever framing that has. Framing is never copied. */
import type { MessageBody } from '../http/body.ts';
import { FieldIndex } from '../http/fields.ts';
import { FieldList } from '../http/h2/field.ts';
import { fieldTrailersRoom, writeFieldTrailers } from '../http/h2/to-http1.ts';
import { BODY } from '../http/head.ts';
import { trailersRoom, writeChunkHeader, writeLastChunk } from '../http/write.ts';
import type { BodyWriter } from '../model/exchange.ts';
import type { ConnectionId, Engine } from '../native/engine.ts';

/** What `writeChunkHeader` needs at most. */
const CHUNK_HEADER_BYTES = 16;

/** What is less comes in a few reads, which cost no more than telling the engine, and hearing of it. */
const MIN_PASSED = 64 * 1024;

/**
 * How long the last bytes of a tunnel may stand still on their way out when both of its sides have ended, in ms: as long as the kernel
 * waits for the reader of a socket that nobody has any more.
 */
export const TAIL_MS = 60_000;

const CR = 0x0d;
const LF = 0x0a;

const NO_TRAILERS = new FieldIndex();

/** Writes bodies to one HTTP/1 connection, as they are or in chunks. */
export class Http1Writer implements BodyWriter {
  socket: ConnectionId;
  /** In chunks. */
  framed = false;
  /** The end of what is written is the end of our side: the other one may go on. */
  endsSide = false;
  full = false;
  /** Bytes handed to the engine for the socket, heads included. */
  handed = 0;
  private readonly engine: Engine;

  constructor(engine: Engine, socket: ConnectionId) {
    this.engine = engine;
    this.socket = socket;
  }

  write(bytes: Uint8Array, from: number, to: number, last: boolean): void {
    if (to > from) this.send(bytes, from, to);
    if (last) this.end(undefined);
  }

  end(trailers: FieldIndex | FieldList | undefined): void {
    const { engine } = this;
    if (this.endsSide) return engine.shutdown(this.socket);
    if (!this.framed) return;
    const list = trailers instanceof FieldList;
    const at = engine.reserve(list ? fieldTrailersRoom(trailers) : trailersRoom(trailers ?? NO_TRAILERS));
    const end = list
      ? writeFieldTrailers(trailers, engine.slab, at)
      : writeLastChunk(trailers ?? NO_TRAILERS, engine.slab, at);
    engine.sendBuilt(this.socket, end);
    this.handed += end - at;
  }

  passed(length: number): void {
    this.handed += length;
  }

  private send(bytes: Uint8Array, from: number, to: number): void {
    const { engine, socket } = this;
    if (this.framed) this.handed += sendChunk(engine, bytes, from, to, socket);
    else if (engine.isSending(socket)) {
      // Copied behind what is being sent already, so that it leaves in one piece with it.
      const at = engine.reserve(to - from);
      engine.sendBuilt(socket, copy(engine.slab, at, bytes, from, to));
      this.handed += to - from;
    } else {
      if (bytes === engine.slab) engine.sendRange(socket, from, to - from);
      else engine.send(socket, bytes.subarray(from, to));
      this.handed += to - from;
    }
  }
}

/**
 * Passes on what belongs to a body, and ends it where it ends; says in `body.done` when that was.
 * @returns where the body ended, or below 0 for a problem (see problems.ts)
 */
export function passBody(
  body: MessageBody,
  bytes: Uint8Array,
  from: number,
  to: number,
  writer: BodyWriter,
): number {
  if (body.kind === BODY.chunked) return passChunks(body, bytes, from, to, writer);
  let end = to;
  if (body.kind === BODY.length) {
    end = Math.min(to, from + body.remaining);
    body.remaining -= end - from;
    body.done = body.remaining === 0;
  }
  body.content += end - from;
  if (end > from) writer.write(bytes, from, end, body.done);
  return end;
}

/**
 * Leaves the rest of a long body to the engine, which moves it in larger pieces and without a word. Only for a body that goes on
 * as it comes, from a connection that is linked to its receiver.
 */
export function passRest(engine: Engine, body: MessageBody, source: ConnectionId, writer: BodyWriter): void {
  if (writer.socket === 0 || writer.framed) return;
  if (body.kind !== BODY.length || (body.remaining < MIN_PASSED && !body.passing)) return;
  // Once more after bytes that were on their way already.
  body.passing = body.remaining > 0;
  engine.pass(source, body.remaining);
}

function passChunks(
  body: MessageBody,
  bytes: Uint8Array,
  from: number,
  to: number,
  writer: BodyWriter,
): number {
  const { chunks } = body;
  let at = from;
  while (at < to && !chunks.done) {
    at = chunks.next(bytes, at, to);
    if (at < 0) return at;
    const { dataStart, dataEnd } = chunks;
    body.content += dataEnd - dataStart;
    if (dataEnd > dataStart) writer.write(bytes, dataStart, dataEnd, false);
  }
  body.done = chunks.done;
  if (body.done) writer.end(chunks.trailers);
  return at;
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
