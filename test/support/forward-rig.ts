/** The forwarder between peers in memory, where a test says itself what happens when; where chance does, see forward-world.ts. */
import type { PeerAddress } from '../../proxy/core/address.ts';
import { Dialler } from '../../proxy/forward/dial.ts';
import { HttpForward } from '../../proxy/forward/http.ts';
import { Http2Upstream } from '../../proxy/forward/http2-upstream.ts';
import type { AnyUpstream } from '../../proxy/forward/upstream.ts';
import { ClientSession } from '../../proxy/http/h2/client-session.ts';
import { DEFAULT_OPTIONS } from '../../proxy/http/h2/options.ts';
import { ServerSession } from '../../proxy/http/h2/server-session.ts';
import type { Session } from '../../proxy/http/h2/session.ts';
import { TransportSeries } from '../../proxy/metrics/transport.ts';
import { NO_BYTES, ProxyConnection } from '../../proxy/model/connection.ts';
import { Endpoint } from '../../proxy/model/endpoint.ts';
import type { Explanation } from '../../proxy/model/explanation.ts';
import type { ApplicationProtocol } from '../../proxy/model/target.ts';
import type { Engine } from '../../proxy/native/engine.ts';
import type { TlsReport } from '../../proxy/native/tls-report.ts';
import { at } from './engine.ts';
import { FakeEngine } from './forward-engine.ts';
import { bytesOf, join, type PlainField } from './h2.ts';
import { ClientWitness, listOf, ServerWitness, type Witness } from './h2-session.ts';
import { testSlab } from './slab.ts';

/** The most that is read at once, in bytes. */
const READ_BYTES = 60_000;

/** Where requests can go. */
export interface EndpointKind {
  readonly protocol?: ApplicationProtocol;
  /** Its proxy has an identity, and is believed. */
  readonly mesh?: boolean;
  /** … and has said that it takes HTTP/2 whatever its application speaks. */
  readonly multiplexed?: boolean;
}

/** Whoever speaks HTTP/2 at the end of a socket: everything that it hears is written down. */
class Hand<S extends Session<string>, W extends Witness<S>> {
  readonly owner: W;
  readonly session: S;

  constructor(owner: W, session: S) {
    this.owner = owner;
    this.session = session;
    session.start();
    session.flush();
  }

  receive(bytes: Uint8Array): void {
    this.session.receive(bytes, 0, bytes.length);
  }

  /** What it has sent since the last time. */
  take(): Uint8Array {
    this.session.flush();
    return join(...this.owner.sent.splice(0));
  }
}

/** A client of HTTP/2. */
export class ClientHand extends Hand<ClientSession<string>, ClientWitness> {
  constructor() {
    const owner = new ClientWitness();
    // It sees whatever the proxy lets through.
    super(owner, new ClientSession<string>(owner, { ...DEFAULT_OPTIONS, keepMesh: true }));
  }
}

/** A server of HTTP/2, or the proxy of one. */
export class ServerHand extends Hand<ServerSession<string>, ServerWitness> {
  constructor() {
    const owner = new ServerWitness();
    super(owner, new ServerSession<string>(owner, { ...DEFAULT_OPTIONS, keepMesh: true }));
  }

  /** Answers the requests that were not answered yet. */
  answer(fields: readonly PlainField[], content = ''): void {
    const { session, owner } = this;
    for (const stream of owner.streams.values()) {
      session.sendHead(stream, listOf(fields), content === '');
      if (content !== '') session.sendData(stream, bytesOf(content), 0, content.length, true);
    }
    owner.streams.clear();
  }
}

/** See above. */
export class Rig {
  readonly engine = new FakeEngine();
  readonly http: HttpForward;
  /** By socket; those that have ended, too. */
  readonly upstreams = new Map<number, AnyUpstream>();
  /** The same for endpoints of HTTP/2. */
  readonly servers = new Map<number, ServerHand>();
  /** Requests go to the first one that was not tried. */
  readonly endpoints: Endpoint[];
  private readonly hands = new Map<ClientHand, ProxyConnection>();

  constructor(...kinds: readonly EndpointKind[]) {
    const engine = this.engine as unknown as Engine;
    const { slab } = testSlab();
    const tls = { lack: () => undefined, start: () => undefined, judge: () => undefined, explain: () => '' };
    const dialler = new Dialler(engine, false, tls);
    this.http = new HttpForward(engine, slab, dialler, { worker: 0, multiplex: true }, this);
    this.endpoints = kinds.map(({ protocol, mesh, multiplexed }, index) => {
      const ip = `10.0.0.${index + 1}`;
      const series = new TransportSeries(slab, { direction: 'outbound', target_addr: `${ip}:80` });
      const proof = { identity: 'web.test', parameters: NO_BYTES, header: NO_BYTES };
      const known = protocol === undefined ? {} : { protocol };
      const snapshot = { ip, port: 80, weight: 1, labels: {}, ...known };
      const endpoint = new Endpoint(snapshot, series, mesh === true ? proof : undefined);
      endpoint.figures.takesHttp2 = multiplexed === true;
      return endpoint;
    });
  }

  adopt(socket: number, upstream: AnyUpstream): void {
    this.upstreams.set(socket, upstream);
  }

  /** The one connection to an endpoint that there has been. */
  get upstream(): number {
    const [only, ...others] = this.upstreams.keys();
    if (only === undefined || others.length > 0) throw new Error(`${others.length + 1} connections, not one`);
    return only;
  }

  get server(): ServerHand {
    return this.servers.get(this.upstream)!;
  }

  /** What was decided, newest first. */
  get decisions(): readonly Explanation[] {
    return this.http.explain(undefined);
  }

  /** Requests in flight at all endpoints. */
  get inFlight(): number {
    return this.endpoints.reduce((sum, { figures }) => sum + figures.requests.inFlight, 0);
  }

  // --- clients

  /** A client connects. */
  accept(protocol: 'http1' | 'http2'): ProxyConnection {
    const id = this.engine.accept();
    const connection = new ProxyConnection(
      'outbound',
      id,
      at('127.0.0.1:1000') as PeerAddress,
      at('10.9.0.1:80'),
    );
    const pickForRequest = (tried: readonly Endpoint[]) =>
      this.endpoints.find((endpoint) => !tried.includes(endpoint));
    connection.picker = { pick: () => undefined, pickForRequest, last: undefined };
    connection.target = { key: 'app:80', users: 1 };
    connection.held = NO_BYTES;
    this.engine.batch(() => this.http.start(connection, protocol, undefined));
    return connection;
  }

  /** A client of HTTP/2 connects. */
  acceptHttp2(): ClientHand {
    const hand = new ClientHand();
    this.hands.set(hand, this.accept('http2'));
    this.run();
    return hand;
  }

  /** A client of HTTP/2 asks, and that arrives. */
  ask(hand: ClientHand, fields: readonly PlainField[], end = true): void {
    hand.session.open('', listOf(fields), end);
    this.say(this.hands.get(hand)!, hand.take());
  }

  /** Bytes of a client arrive. */
  say(connection: ProxyConnection, bytes: Uint8Array | string): void {
    this.arrive(bytes, (length) => this.http.clientData(connection, 0, length));
  }

  // --- endpoints

  /** All connections that are being dialled are there. */
  dial(): void {
    for (const id of this.engine.dialled.splice(0)) {
      const upstream = this.upstreams.get(id)!;
      if (upstream instanceof Http2Upstream) this.servers.set(id, new ServerHand());
      this.engine.batch(() => this.http.upstreamConnected(upstream, 100));
      if (upstream.upstreamStage !== 'securing') continue;
      this.engine.batch(() => this.http.upstreamSecured(upstream, { micros: 5 } as TlsReport));
    }
  }

  /** Bytes of an endpoint arrive. */
  reply(socket: number, bytes: Uint8Array | string): void {
    this.arrive(bytes, (length) => this.http.upstreamData(this.upstreams.get(socket)!, 0, length));
  }

  /** A connection to an endpoint is lost, with what the kernel has taken of it. */
  lose(socket: number, errno: number): void {
    const { written } = this.engine.sockets.get(socket)!;
    this.engine.sockets.delete(socket);
    this.engine.batch(() => this.http.upstreamClosed(this.upstreams.get(socket)!, errno, written));
  }

  /** What was sent to a socket since the last time. */
  sent(socket: number): string {
    return Buffer.from(this.take(socket)).toString('latin1');
  }

  /** Everything that was said in HTTP/2 arrives, and what is said to that. */
  run(): void {
    for (let isQuiet = false; !isQuiet; ) {
      isQuiet = true;
      for (const [hand, connection] of this.hands) {
        const bytes = this.passOn(hand, connection.client);
        if (bytes.length === 0) continue;
        this.say(connection, bytes);
        isQuiet = false;
      }
      for (const [id, hand] of this.servers) {
        const bytes = this.passOn(hand, id);
        if (bytes.length === 0) continue;
        this.reply(id, bytes);
        isQuiet = false;
      }
    }
  }

  private passOn(hand: ClientHand | ServerHand, socket: number): Uint8Array {
    hand.receive(this.take(socket));
    return hand.take();
  }

  private take(id: number): Uint8Array {
    const socket = this.engine.sockets.get(id);
    return socket === undefined ? NO_BYTES : this.engine.take(socket, socket.pending.length);
  }

  private arrive(from: Uint8Array | string, tell: (length: number) => void): void {
    const bytes = typeof from === 'string' ? bytesOf(from) : from;
    for (let start = 0; start < bytes.length; start += READ_BYTES) {
      const piece = bytes.subarray(start, start + READ_BYTES);
      this.engine.batch(() => {
        this.engine.slab.set(piece, 0);
        tell(piece.length);
      });
    }
  }
}
