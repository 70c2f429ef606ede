/** The codec as a connection uses it: bytes in pieces in, whole messages as plain values out. */
import { ChunkedReader } from '../../proxy/http/chunked.ts';
import type { FieldIndex } from '../../proxy/http/fields.ts';
import { BODY, Head } from '../../proxy/http/head.ts';
import { METHOD } from '../../proxy/http/names.ts';
import { describeProblem } from '../../proxy/http/problems.ts';
import { readRequestHead } from '../../proxy/http/request.ts';
import { readResponseHead } from '../../proxy/http/response.ts';

/** A field: name and value as they were, and whether it is not forwarded. */
export type PlainField = readonly [name: string, value: string, dropped: boolean];

/** A whole message. */
export interface PlainMessage {
  readonly minor: number;
  readonly method: string;
  readonly target: string;
  readonly form: string;
  readonly path: string;
  readonly authority: string;
  readonly status: number;
  readonly reason: string;
  readonly fields: readonly PlainField[];
  readonly framing: number;
  readonly contentLength: number;
  readonly close: boolean;
  readonly keepAlive: boolean;
  readonly upgrade: boolean;
  readonly expectContinue: boolean;
  body: string;
  trailers: readonly PlainField[];
}

/** A text as bytes of its own, Latin-1. */
export function bytesOf(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'latin1'));
}

/** Bytes as text, Latin-1. */
export function textOf(bytes: Uint8Array, start = 0, end = bytes.length): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1', start, end);
}

/** The fields of a head or a trailer section. */
export function plainFields(index: FieldIndex): PlainField[] {
  return Array.from({ length: index.count }, (_, i) => [
    textOf(index.bytes, index.fields[4 * i], index.fields[4 * i + 1]),
    textOf(index.bytes, index.fields[4 * i + 2], index.fields[4 * i + 3]),
    index.dropped[i] === 1,
  ]);
}

/** What a head says. */
export function plainMessage(head: Head): PlainMessage {
  const text = (start: number, end: number) => textOf(head.bytes, start, end);
  return {
    minor: head.minor,
    method: head.methodEnd === 0 ? '' : text(head.start, head.methodEnd),
    target: text(head.targetStart, head.targetEnd),
    form: head.form,
    path: text(head.pathStart, head.pathEnd),
    authority: text(head.authorityStart, head.authorityEnd),
    status: head.status,
    reason: text(head.reasonStart, head.reasonEnd),
    fields: plainFields(head),
    framing: head.framing,
    contentLength: head.contentLength,
    close: head.close,
    keepAlive: head.keepAlive,
    upgrade: head.upgrade,
    expectContinue: head.expectContinue,
    body: '',
    trailers: [],
  };
}

/** Reads messages one after the other, as they arrive. */
export class MessageReader {
  readonly messages: PlainMessage[] = [];
  /** PROBLEM number, and what was being read. */
  problem = 0;
  part: 'head' | 'body' = 'head';
  readonly head = new Head();
  /** Nothing more is expected: bytes that are left were not asked for. */
  finished = false;
  private readonly chunks = new ChunkedReader();
  private pending: Uint8Array = new Uint8Array(0);
  private remaining = 0;
  /** Of the request, for responses; undefined reads requests. */
  private readonly method: number | undefined;

  constructor(method?: number) {
    this.method = method;
  }

  /** Status and text of the problem; undefined while there is none. */
  get refusal(): { readonly status: number; readonly text: string } | undefined {
    const seen = this.part === 'head' ? this.head.seenBytes : this.chunks.seenBytes;
    return this.problem === 0 ? undefined : describeProblem(this.problem, seen);
  }

  /** Bytes that nobody has taken. */
  get left(): number {
    return this.pending.length;
  }

  /** Whether a message has begun and not ended. */
  get amidMessage(): boolean {
    return this.part === 'body' || (this.pending.length > 0 && !this.finished);
  }

  feed(piece: Uint8Array): void {
    if (this.problem !== 0) return;
    this.pending = new Uint8Array(Buffer.concat([this.pending, piece]));
    let taken = -1;
    let at = 0;
    while (taken !== 0 && this.problem === 0 && !this.finished) {
      taken = this.part === 'head' ? this.readHead(at) : this.readBody(at);
      at += taken;
    }
    this.pending = this.pending.subarray(at);
  }

  private readHead(from: number): number {
    const { head, pending, method } = this;
    const end =
      method === undefined
        ? readRequestHead(head, pending, from, pending.length)
        : readResponseHead(head, pending, from, pending.length, method);
    if (end < 0) this.problem = -end;
    if (end <= 0) return 0;
    this.messages.push(plainMessage(head));
    this.remaining = Math.max(0, head.contentLength);
    this.chunks.reset();
    this.part = head.body === BODY.none ? 'head' : 'body';
    if (this.part === 'head') this.endMessage();
    return end - from;
  }

  private readBody(from: number): number {
    const { head, pending } = this;
    const message = this.messages[this.messages.length - 1];
    if (head.body === BODY.chunked) return this.readChunks(from, message);
    const most = head.body === BODY.length ? this.remaining : pending.length;
    const end = Math.min(pending.length, from + most);
    message.body += textOf(pending, from, end);
    this.remaining -= end - from;
    if (head.body === BODY.length && this.remaining === 0) this.endMessage();
    return end - from;
  }

  private readChunks(from: number, message: PlainMessage): number {
    const { chunks, pending } = this;
    const end = chunks.next(pending, from, pending.length);
    if (end < 0) {
      this.problem = -end;
      return 0;
    }
    message.body += textOf(pending, chunks.dataStart, chunks.dataEnd);
    if (chunks.done) {
      message.trailers = plainFields(chunks.trailers);
      this.endMessage();
    }
    return end - from;
  }

  private endMessage(): void {
    this.part = 'head';
    const { status, method } = this.head;
    const tunnel = this.method === undefined ? method === METHOD.connect : status === 101;
    this.finished = tunnel || (this.method !== undefined && status >= 200);
  }
}

/** Reads all of `text`, cut at the given places. */
export function readMessages(text: string, method?: number, cuts: readonly number[] = []): MessageReader {
  const reader = new MessageReader(method);
  const bytes = bytesOf(text);
  let from = 0;
  for (const cut of [...cuts, bytes.length].sort((a, b) => a - b)) {
    reader.feed(bytes.subarray(from, cut));
    from = cut;
  }
  return reader;
}
