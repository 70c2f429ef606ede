/** Sessions without sockets, with owners that write down what they hear. */
import type { Block } from '../../proxy/core/block.ts';
import { ClientSession } from '../../proxy/http/h2/client-session.ts';
import { FieldList } from '../../proxy/http/h2/field.ts';
import { errorName } from '../../proxy/http/h2/frames.ts';
import type { H2Head } from '../../proxy/http/h2/head.ts';
import { fieldOf } from '../../proxy/http/h2/interning.ts';
import { DEFAULT_OPTIONS, type SessionOptions } from '../../proxy/http/h2/options.ts';
import type { ClientOwner, ServerOwner } from '../../proxy/http/h2/owner.ts';
import { describeH2Problem } from '../../proxy/http/h2/problems.ts';
import { ServerSession } from '../../proxy/http/h2/server-session.ts';
import type { Session } from '../../proxy/http/h2/session.ts';
import type { Stream } from '../../proxy/http/h2/stream.ts';
import {
  bytesOf,
  FrameSplitter,
  type H2Connection,
  join,
  type PlainField,
  type PlainFrame,
  plainFields,
} from './h2.ts';

/** Fields as sessions take them. */
export function listOf(fields: readonly PlainField[]): FieldList {
  const list = new FieldList();
  for (const [name, value] of fields) list.push(fieldOf(name, value));
  return list;
}

/** What an owner heard, as text: content of one stream that follows each other is one entry. */
export class Witness<S extends Session<string>> {
  readonly heard: string[] = [];
  /** All bytes that were sent. */
  sent: Uint8Array[] = [];
  /** Streams that were opened, by number. */
  readonly streams = new Map<number, Stream<string>>();
  ms = 1000;
  /** Content is consumed as soon as it comes. */
  consumes = true;
  outputReadies = 0;

  nowMs(): number {
    return this.ms;
  }

  data(session: S, stream: Stream<string>, bytes: Uint8Array, from: number, to: number, end: boolean): void {
    this.note(stream.id, 'data', Buffer.from(bytes.subarray(from, to)).toString('latin1'), end);
    if (this.consumes) session.consumed(stream, to - from);
  }

  trailers(_session: S, stream: Stream<string>, fields: FieldList): void {
    this.heard.push(`${stream.id} trailers ${fieldText(fields)}`);
  }

  streamReset(_session: S, stream: Stream<string>, code: number, ours: boolean): void {
    const why = stream.problem === 0 ? '' : `: ${describeH2Problem(stream.problem).text}`;
    this.heard.push(`${stream.id} reset ${errorName(code)} ${ours ? 'ours' : 'theirs'}${why}`);
  }

  writable(_session: S, stream: Stream<string>): void {
    this.heard.push(`${stream.id} writable`);
  }

  pong(): void {
    this.heard.push('pong');
  }

  goAway(_session: S, lastStream: number, code: number, debug: string): void {
    this.heard.push(`goaway ${lastStream} ${errorName(code)} "${debug}"`);
  }

  ended(_session: S, code: number, reason: string, ours: boolean): void {
    this.heard.push(`ended ${errorName(code)} ${ours ? 'ours' : 'theirs'}: ${reason}`);
  }

  outputReady(): void {
    this.outputReadies++;
  }

  send(_session: S, bytes: Uint8Array, from: number, to: number): void {
    this.sent.push(bytes.slice(from, to));
  }

  sendBlock(session: S, block: Block, length: number): void {
    this.send(session, block.bytes, 0, length);
  }

  /** What was heard since the last time. */
  news(): string[] {
    return this.heard.splice(0);
  }

  /** Frames that were sent since the last time. */
  frames(): PlainFrame[] {
    const all = join(...this.sent);
    this.sent = [];
    return new FrameSplitter().push(all);
  }

  private note(id: number, what: string, text: string, end: boolean): void {
    const prefix = `${id} ${what} `;
    const last = this.heard.at(-1);
    const suffix = end ? ' END' : '';
    if (last?.startsWith(prefix) && !last.endsWith(' END')) {
      this.heard[this.heard.length - 1] = `${last}${text}${suffix}`;
    } else this.heard.push(`${prefix}${text}${suffix}`);
  }
}

/** The owner of a server's session. */
export class ServerWitness
  extends Witness<ServerSession<string>>
  implements ServerOwner<ServerSession<string>, string>
{
  requestHead(_session: ServerSession<string>, stream: Stream<string>, head: H2Head, end: boolean): void {
    this.streams.set(stream.id, stream);
    this.heard.push(`${stream.id} request ${fieldText(head.fields)}${end ? ' END' : ''}`);
  }

  requestProblem(_session: ServerSession<string>, stream: Stream<string>, problem: number): void {
    const { status, text } = describeH2Problem(problem);
    this.heard.push(`${stream.id} problem ${status} ${text}`);
  }
}

/** The owner of a client's session. */
export class ClientWitness
  extends Witness<ClientSession<string>>
  implements ClientOwner<ClientSession<string>, string>
{
  responseHead(_session: ClientSession<string>, stream: Stream<string>, head: H2Head, end: boolean): void {
    this.heard.push(`${stream.id} response ${fieldText(head.fields)}${end ? ' END' : ''}`);
  }

  capacityChanged(session: ClientSession<string>): void {
    this.heard.push(`capacity ${session.capacity}`);
  }
}

/** A server's session that has started; what it began with is taken. */
export function startServer(
  changes: Partial<SessionOptions> = {},
  owner: ServerWitness = new ServerWitness(),
): { owner: ServerWitness; session: ServerSession<string> } {
  const session = new ServerSession<string>(owner, { ...DEFAULT_OPTIONS, ...changes });
  session.start();
  session.flush();
  owner.sent = [];
  return { owner, session };
}

/** A client's session that has started; what it began with is taken. */
export function startClient(
  changes: Partial<SessionOptions> = {},
  owner: ClientWitness = new ClientWitness(),
): { owner: ClientWitness; session: ClientSession<string> } {
  const session = new ClientSession<string>(owner, { ...DEFAULT_OPTIONS, ...changes });
  session.start();
  session.flush();
  owner.sent = [];
  return { owner, session };
}

/** Gives bytes to a session, and flushes what that makes. */
export function receive(session: Session<string>, ...parts: readonly Uint8Array[]): void {
  const bytes = join(...parts);
  session.receive(bytes, 0, bytes.length);
  session.flush();
}

function fieldText(fields: FieldList): string {
  return plainFields(fields)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');
}

const CONTENT = bytesOf('Here is some content.');

/** A server that answers every request, when it has come, with a text as far as windows allow. */
class Answerer extends ServerWitness {
  private readonly sentBytes = new Map<number, number>();

  override requestHead(
    session: ServerSession<string>,
    stream: Stream<string>,
    head: H2Head,
    end: boolean,
  ): void {
    stream.user =
      head.methodField === undefined ? '' : Buffer.from(head.methodField.value).toString('latin1');
    if (end) this.answer(session, stream);
  }

  override data(
    session: ServerSession<string>,
    stream: Stream<string>,
    _bytes: Uint8Array,
    from: number,
    to: number,
    end: boolean,
  ): void {
    session.consumed(stream, to - from);
    if (end) this.answer(session, stream);
  }

  override trailers(session: ServerSession<string>, stream: Stream<string>): void {
    this.answer(session, stream);
  }

  override writable(session: ServerSession<string>, stream: Stream<string>): void {
    const from = this.sentBytes.get(stream.id) ?? 0;
    const sent = session.sendData(stream, CONTENT, from, CONTENT.length, true);
    this.sentBytes.set(stream.id, from + sent);
  }

  private answer(session: ServerSession<string>, stream: Stream<string>): void {
    const isHead = stream.user === 'HEAD';
    session.sendHead(stream, listOf([[':status', '200']]), isHead);
    if (!isHead) this.writable(session, stream);
  }
}

/** A connection to a session in memory, whose server answers every request. */
export function connectSession(): H2Connection {
  const owner = new Answerer();
  const session = new ServerSession<string>(owner, DEFAULT_OPTIONS);
  const splitter = new FrameSplitter();
  const frames: PlainFrame[] = [];
  const take = () => {
    session.flush();
    frames.push(...splitter.push(join(...owner.sent)));
    owner.sent = [];
  };
  session.start();
  take();
  return {
    write: (bytes) => {
      session.receive(bytes, 0, bytes.length);
      take();
    },
    next: async () => frames.shift() ?? (session.isEnded ? 'closed' : 'quiet'),
  };
}
