/** Servers of gRPC that are restarted in place, and clients that make many calls at once, unary and streaming, and must not mind. */
import type { ServerHttp2Stream } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { at } from './engine.ts';
import { answerOf, type H2Application, H2Client, startH2Application } from './h2-application.ts';
import { eventually } from './proxy.ts';

/** What a unary call takes in the server, in ms: some are under way whenever it is told to stop. */
const WORK_MS = 5;

/** Messages that a stream sends, one after the other; each comes back. */
const TURNS = 8;

const OK = 0;
const UNAVAILABLE = 14;

const REQUEST = { ':method': 'POST', 'content-type': 'application/grpc', te: 'trailers' };
const RESPONSE = { ':status': 200, 'content-type': 'application/grpc' };

/** A message of gRPC: a flag and its length come first. */
function messageOf(text: string): Buffer {
  const bytes = Buffer.from(`\0\0\0\0\0${text}`);
  bytes.writeUInt32BE(text.length, 1);
  return bytes;
}

/** A server that keeps its address. */
export class Replica {
  /** Calls that it has begun, in all its lives. */
  calls = 0;
  address: SocketAddress = at('127.0.0.1:0');
  private readonly t: Test;
  private readonly seen: Map<string, number>;
  private application: H2Application | undefined;

  /** @param seen unary calls by path, and how often any replica has begun each */
  constructor(t: Test, seen: Map<string, number>) {
    this.t = t;
    this.seen = seen;
  }

  async start(): Promise<void> {
    const { port } = this.address;
    this.application = await startH2Application(
      this.t,
      (stream, head) => this.serve(stream, String(head[':path'])),
      {},
      port,
    );
    this.address = this.application.address;
  }

  /**
   * Ends as servers do: no new calls, some time for those it has, and then whatever is left is cut.
   * @param graceMs more than unary calls take, less than streams
   */
  async stop(graceMs: number): Promise<void> {
    const left = this.application?.leave();
    await Promise.race([left, sleep(graceMs)]);
    this.application?.destroy();
    await left;
  }

  private serve(stream: ServerHttp2Stream, path: string): void {
    this.calls++;
    const answer = () => {
      if (stream.destroyed) return;
      stream.respond(RESPONSE, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': OK }));
      stream.pipe(stream);
    };
    if (path.startsWith('/stream')) return answer();
    this.seen.set(path, (this.seen.get(path) ?? 0) + 1);
    setTimeout(answer, WORK_MS);
  }
}

/** How a call ended. */
export interface CallEnd {
  /** Its grpc-status; -1: there was none. */
  readonly status: number;
  /** What went wrong, in words. */
  readonly message: string;
  /** What came is what was sent, or the beginning of it where the call was cut. */
  readonly right: boolean;
}

/** Calls over many connections until told to stop: of the streams of each, every second makes unary calls. */
export class Load {
  readonly unary: CallEnd[] = [];
  readonly streaming: CallEnd[] = [];
  private readonly pauseMs: number;
  private readonly ended: Promise<unknown>;
  private stopping = false;

  /**
   * @param streams calls at once on each connection
   * @param pauseMs between two messages of a stream, and two unary calls that follow each other
   */
  constructor(t: Test, address: SocketAddress, connections: number, streams: number, pauseMs: number) {
    this.pauseMs = pauseMs;
    const loops = Array.from({ length: connections }, (_, connection) => {
      const client = new H2Client(t, address);
      return Array.from({ length: streams }, (_, n) =>
        this.follow(client, `${connection}-${n}`, n % 2 === 0),
      );
    });
    this.ended = Promise.all(loops.flat());
  }

  /** Waits until so many more calls of each kind are over. */
  async goOn(unary: number, streaming: number): Promise<void> {
    const [first, second] = [this.unary.length + unary, this.streaming.length + streaming];
    const isThere = () => this.unary.length >= first && this.streaming.length >= second;
    await eventually(
      'more calls',
      () => isThere() || undefined,
      () => `${this.unary.length} ${this.streaming.length}`,
    );
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await this.ended;
  }

  /** Calls of a kind that did not end with OK, or not with what they should have got. */
  static failures(ends: readonly CallEnd[]): CallEnd[] {
    return ends.filter(({ status, right }) => status !== OK || !right);
  }

  private async follow(client: H2Client, name: string, isUnary: boolean): Promise<void> {
    // Not all at the same moment.
    await sleep(Math.random() * this.pauseMs);
    for (let n = 0; !this.stopping; n++) {
      if (!isUnary) this.streaming.push(await this.stream(client, `/stream/${name}-${n}`));
      else {
        this.unary.push(await this.call(client, `/unary/${name}-${n}`));
        await sleep(this.pauseMs);
      }
    }
  }

  private async call(client: H2Client, path: string): Promise<CallEnd> {
    const stream = client.open(path, REQUEST);
    stream.end(messageOf(path));
    return endOf(await answerOf(stream), messageOf(path));
  }

  private async stream(client: H2Client, path: string): Promise<CallEnd> {
    const stream = client.open(path, REQUEST);
    const answered = answerOf(stream);
    const sent: Buffer[] = [];
    for (let turn = 0; turn < TURNS && !stream.closed; turn++) {
      const message = messageOf(`${path}: ${turn}`);
      sent.push(message);
      stream.write(message);
      await sleep(this.pauseMs);
    }
    if (!stream.closed) stream.end();
    return endOf(await answered, Buffer.concat(sent));
  }
}

function endOf(
  { headers, trailers, text, code }: Awaited<ReturnType<typeof answerOf>>,
  sent: Buffer,
): CallEnd {
  const said = headers['grpc-status'] === undefined ? trailers : headers;
  const status = Number(said['grpc-status'] ?? -1);
  const whole = sent.toString('latin1');
  return {
    status,
    message: status < 0 ? `reset with ${code}` : decodeURIComponent(String(said['grpc-message'] ?? '')),
    right: status === UNAVAILABLE ? whole.startsWith(text) : whole === text,
  };
}
