/** HTTP/2 on both ends of the forwarder, in memory: clients that ask, and servers that do what a test wants them to. */
import type { Block } from '../../proxy/core/block.ts';
import { ClientSession } from '../../proxy/http/h2/client-session.ts';
import type { FieldList } from '../../proxy/http/h2/field.ts';
import { H2_ERROR, MAX_31_BITS, SETTING } from '../../proxy/http/h2/frames.ts';
import type { H2Head } from '../../proxy/http/h2/head.ts';
import { DEFAULT_OPTIONS } from '../../proxy/http/h2/options.ts';
import type { ClientOwner, ServerOwner } from '../../proxy/http/h2/owner.ts';
import { ServerSession } from '../../proxy/http/h2/server-session.ts';
import type { Session } from '../../proxy/http/h2/session.ts';
import type { Stream } from '../../proxy/http/h2/stream.ts';
import type { Call, ClientPeer, ServerPeer, Service } from './forward-peers.ts';
import { answered, bodyBytes, checkBody, OWN_FIELD, PADDING_NAME, parsePath } from './forward-peers.ts';
import { goAway, join, type PlainField, plainFields, settings } from './h2.ts';
import { listOf } from './h2-session.ts';

/** What both ends have in common. */
abstract class H2Peer<S extends Session<T>, T extends { stream?: Stream<T>; got: number; held: number }> {
  toProxy: Uint8Array = new Uint8Array(0);
  isLost = false;
  leaves = false;
  abstract readonly session: S;
  private readonly clock: () => number;

  constructor(clock: () => number) {
    this.clock = clock;
  }

  receive(bytes: Uint8Array): void {
    this.session.receive(bytes, 0, bytes.length);
    this.session.flush();
  }

  lost(): void {
    this.isLost = true;
    this.session.disconnected();
  }

  /** Lets go of what was held back. */
  consume(record: T): void {
    const { stream, held } = record;
    record.held = 0;
    if (stream !== undefined && held > 0) this.session.consumed(stream, held);
    this.session.flush();
  }

  nowMs(): number {
    return this.clock();
  }

  data(_session: S, stream: Stream<T>, bytes: Uint8Array, from: number, to: number, end: boolean): void {
    const record = stream.user!;
    this.check(record, bytes, from, to);
    record.got += to - from;
    record.held += to - from;
    if (end) this.complete(record);
  }

  trailers(_session: S, stream: Stream<T>, _fields: FieldList): void {
    this.complete(stream.user!);
  }

  writable(): void {}
  outputReady(): void {}
  pong(): void {}
  goAway(): void {}

  ended(): void {
    this.leaves = true;
  }

  send(_session: S, bytes: Uint8Array, from: number, to: number): void {
    this.toProxy = join(this.toProxy, bytes.subarray(from, to));
  }

  sendBlock(session: S, block: Block, length: number): void {
    this.send(session, block.bytes, 0, length);
  }

  protected abstract complete(record: T): void;
  protected abstract check(record: T, bytes: Uint8Array, from: number, to: number): void;

  /** Sends the next bytes of a body of `length`. @returns how far it has come */
  protected content(stream: Stream<T>, sent: number, wanted: number, length: number, end: boolean): number {
    const to = Math.min(length, sent + wanted);
    const bytes = bodyBytes(sent, to);
    const taken = this.session.sendData(stream, bytes, 0, bytes.length, end && to === length);
    this.session.flush();
    return sent + taken;
  }
}

type ClientCall = Call & { stream?: Stream<ClientCall> };

/** A client. */
export class H2ClientPeer
  extends H2Peer<ClientSession<ClientCall>, ClientCall>
  implements ClientPeer, ClientOwner<ClientSession<ClientCall>, ClientCall>
{
  readonly protocol = 'http2';
  readonly session: ClientSession<ClientCall>;
  readonly calls: ClientCall[] = [];

  constructor(clock: () => number) {
    super(clock);
    this.session = new ClientSession<ClientCall>(this);
    this.session.start();
    this.session.flush();
  }

  get canAsk(): boolean {
    return this.session.capacity > 0;
  }

  ask(call: Call): void {
    const fields: PlainField[] = [
      [':method', call.method],
      [':scheme', 'http'],
      [':authority', 'app'],
      [':path', call.path],
    ];
    if (call.padding) fields.push([PADDING_NAME, '~'.repeat(call.padding)]);
    const record: ClientCall = call;
    this.calls.push(record);
    record.sentEnd = call.length === 0;
    record.stream = this.session.open(record, listOf(fields), record.sentEnd);
    this.session.flush();
  }

  sendMore(call: ClientCall, wanted: number, end: boolean): void {
    if (call.stream === undefined || call.sentEnd || call.outcome !== undefined) return;
    const byTrailers = end && call.hasTrailers;
    call.sent = this.content(call.stream, call.sent, wanted, call.length, end && !byTrailers);
    if (!end || call.sent < call.length) return;
    call.sentEnd = true;
    if (byTrailers) this.session.sendTrailers(call.stream, listOf([['x-sum', '1']]));
    this.session.flush();
  }

  cancel(call: ClientCall): void {
    if (call.stream === undefined || call.outcome !== undefined) return;
    call.outcome = 'cancelled';
    this.session.reset(call.stream, 8);
    this.session.flush();
  }

  responseHead(
    _session: ClientSession<ClientCall>,
    stream: Stream<ClientCall>,
    head: H2Head,
    end: boolean,
  ): void {
    const call = stream.user!;
    if (head.status < 200) return;
    call.status = head.status;
    if (end) this.complete(call);
  }

  streamReset(_session: ClientSession<ClientCall>, stream: Stream<ClientCall>): void {
    stream.user!.outcome ??= 'reset';
  }

  capacityChanged(): void {}

  protected override check(call: ClientCall, bytes: Uint8Array, from: number, to: number): void {
    if (call.status === 200) checkBody(bytes, from, to, call.got);
  }

  protected override complete(call: ClientCall): void {
    answered(call);
  }
}

type StreamService = Service & { stream?: Stream<StreamService> };

/** A server. */
export class H2ServerPeer
  extends H2Peer<ServerSession<StreamService>, StreamService>
  implements ServerPeer, ServerOwner<ServerSession<StreamService>, StreamService>
{
  readonly session: ServerSession<StreamService>;
  readonly services: StreamService[] = [];
  /** The last stream that it does anything for. */
  private lastServed = MAX_31_BITS;

  constructor(clock: () => number) {
    super(clock);
    this.session = new ServerSession<StreamService>(this, { ...DEFAULT_OPTIONS, keepMesh: true });
    this.session.start();
    this.session.flush();
  }

  leave(): void {
    this.session.drain();
    this.session.flush();
  }

  leaveUndone(from: number): void {
    const undone = this.services.slice(from);
    const first = undone[0]?.stream;
    if (first === undefined || undone.some(({ headSent, over }) => headSent || over)) return;
    this.lastServed = Math.min(this.lastServed, first.id - 2);
    for (const service of undone) service.over = service.undone = true;
    this.toProxy = join(this.toProxy, goAway(this.lastServed, H2_ERROR.noError));
  }

  limit(streams: number): void {
    if (!this.leaves) this.toProxy = join(this.toProxy, settings([SETTING.maxConcurrentStreams, streams]));
  }

  interim({ stream, headSent }: StreamService): void {
    if (stream === undefined || headSent) return;
    this.session.sendHead(stream, listOf([[':status', '103']]), false, false);
    this.session.flush();
  }

  respond(service: StreamService, wanted: number): void {
    const { stream, over } = service;
    if (stream === undefined || over) return;
    if (!service.headSent) {
      service.headSent = true;
      service.over = service.length === 0 && !service.hasTrailers;
      this.session.sendHead(stream, listOf([[':status', '200']]), service.over);
    } else {
      service.sent = this.content(stream, service.sent, wanted, service.length, !service.hasTrailers);
      if (service.sent === service.length) {
        service.over = true;
        if (service.hasTrailers) this.session.sendTrailers(stream, listOf([['x-sum', '1']]));
      }
    }
    this.session.flush();
  }

  fail(service: StreamService, code: number): void {
    if (service.stream === undefined || service.over) return;
    service.over = true;
    service.undone = code === H2_ERROR.refusedStream;
    this.session.reset(service.stream, code);
    this.session.flush();
  }

  requestHead(
    _session: ServerSession<StreamService>,
    stream: Stream<StreamService>,
    head: H2Head,
    end: boolean,
  ): void {
    const service: StreamService = parsePath(Buffer.from(head.path!.value).toString('latin1'));
    const fields = new Map(plainFields(head.fields));
    if (fields.get(OWN_FIELD[0]) !== OWN_FIELD[1])
      throw new Error(`request ${service.id} comes without ${OWN_FIELD[0]}`);
    if ((fields.get(PADDING_NAME) ?? '').length !== service.padding)
      throw new Error(`request ${service.id} comes with another padding`);
    service.stream = stream;
    service.over = service.undone = stream.id > this.lastServed;
    stream.user = service;
    this.services.push(service);
    if (end) this.complete(service);
  }

  requestProblem(
    _session: ServerSession<StreamService>,
    _stream: Stream<StreamService>,
    problem: number,
  ): void {
    throw new Error(`a server got a request with problem ${problem}`);
  }

  streamReset(_session: ServerSession<StreamService>, stream: Stream<StreamService>): void {
    stream.user!.over = true;
  }

  protected override check(service: StreamService, bytes: Uint8Array, from: number, to: number): void {
    checkBody(bytes, from, to, service.got);
  }

  protected override complete(service: StreamService): void {
    service.requestDone = true;
    if (service.got !== service.requestLength) {
      throw new Error(`request ${service.id} has ${service.got} bytes of ${service.requestLength}`);
    }
  }
}
