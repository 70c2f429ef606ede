/**
 * The first bytes of a connection: whether they are TLS, and for whom, and whether what is not TLS is HTTP. Reads as often as
 * it must; what it read stays in `connection.held` until somebody passes it on.
 *
 * A silent client does not hold anything up: the upstream is dialled as well, and whoever speaks first decides (MySQL, SMTP
 * and others speak first).
 */
import type { OpeningSearch, Protocol, ProxyConnection } from '../model/connection.ts';
import type { ConnectionId, Engine } from '../native/engine.ts';
import { readClientHello } from './client-hello.ts';
import { opensAsHttp2Server, readProtocol } from './protocol.ts';

/** How long a client may be silent before the upstream is dialled as well, in ms: DESIGN section 4. */
const SILENCE_MS = 50;

/**
 * How long a ClientHello or a request line may take from its first byte, or a client that must speak TLS to begin, in ms:
 * Linkerd's.
 */
const OPENING_MS = 10_000;

/** What the spine is told. */
export interface OpeningOwner {
  /** Something new is held: everything that came together. Call `decide` if it is for the opening. */
  look(connection: ProxyConnection): void;
  /** The client speaks TLS and asks for `serverName` (empty: for nobody). */
  sawTls(connection: ProxyConnection, serverName: string): void;
  /** It speaks something else; nothing is known of what it speaks when the server spoke first. */
  sawProtocol(connection: ProxyConnection, protocol: Protocol, first: 'client' | 'server'): void;
  /** It is silent: dial the upstream as well. */
  silent(connection: ProxyConnection): void;
  /** It began like TLS and cannot be understood, or did not begin at all. */
  unreadable(connection: ProxyConnection, message: string): void;
  /** It began like HTTP and stopped in the middle of the request line. */
  stalled(connection: ProxyConnection, afterMs: number): void;
}

/** Waits for first bytes, for one worker. */
export class Opening {
  private readonly engine: Engine;
  private readonly owner: OpeningOwner;
  /** Of these a look is due. */
  private readonly changed: ProxyConnection[] = [];

  constructor(engine: Engine, owner: OpeningOwner) {
    this.engine = engine;
    this.owner = owner;
  }

  /** Starts reading. What is held already counts; see `decide`. */
  start(connection: ProxyConnection, search: OpeningSearch): void {
    connection.stage = 'opening';
    connection.openingSinceMs = this.engine.nowMs();
    connection.search = search;
    connection.openingDue = false;
    connection.scanned = 0;
    this.engine.resume(connection.client);
    // Dialled for its silence before its TLS began.
    if (connection.upstreamStage === 'ready') this.engine.resume(connection.upstream);
    if (connection.held.length > 0 || connection.heldUpstream.length > 0 || connection.upstreamEnded) {
      return this.decide(connection);
    }
    if (connection.upstreamStage !== 'none') return;
    if (search.race && search.atOnce) return this.owner.silent(connection);
    this.engine.deadline(connection.client, search.race ? SILENCE_MS : OPENING_MS);
  }

  /** Bytes of the client, or of an upstream that may speak first. */
  received(connection: ProxyConnection, socket: ConnectionId, bytes: Uint8Array): void {
    connection.hold(socket, bytes);
    // That it speaks is all we want to know; the rest of what it says stays in the kernel.
    if (socket === connection.upstream) this.engine.pause(socket);
    this.lookLater(connection);
  }

  /** The end of either. */
  ended(connection: ProxyConnection, socket: ConnectionId): void {
    if (socket === connection.client) connection.clientEnded = true;
    else connection.upstreamEnded = true;
    this.lookLater(connection);
  }

  /** An upstream that was dialled for a silent client is there: listen to it too. */
  listenToUpstream(connection: ProxyConnection): void {
    this.engine.resume(connection.upstream);
  }

  /** The client's deadline has passed. */
  timedOut(connection: ProxyConnection): void {
    const { held, search } = connection;
    if (search?.race && held.length === 0) {
      return connection.upstream === 0 ? this.owner.silent(connection) : this.decide(connection);
    }
    // The end of the silence came in one batch with the first bytes, which are looked at next and get their own time.
    if (held.length > 0 && !connection.openingDue) return;
    if (connection.scanned > 0) return this.owner.stalled(connection, OPENING_MS);
    const what =
      held.length === 0
        ? 'the client sent nothing'
        : `the client stalled after ${held.length} bytes of a TLS ClientHello`;
    this.owner.unreadable(connection, `${what} for ${OPENING_MS} ms`);
  }

  /** Something is new in what is held, or an end was seen. */
  decide(connection: ProxyConnection): void {
    const { held, search } = connection;
    if (held.length > 0) return this.read(connection, search?.tls === true);
    if (hasServerSpoken(connection) || connection.upstreamEnded) return this.serverFirst(connection);
    // An end without a byte is for the application to make sense of.
    if (connection.clientEnded) this.settle(connection, 'opaque', 'client');
  }

  /** At the end of the batch: by then everything that came together is known. */
  private lookLater(connection: ProxyConnection): void {
    if (connection.looking) return;
    connection.looking = true;
    if (this.changed.push(connection) === 1) this.engine.atEnd(this.lookAtChanged);
  }

  private readonly lookAtChanged = (): void => {
    const { changed } = this;
    for (let index = 0; index < changed.length; index++) {
      const connection = changed[index];
      connection.looking = false;
      this.owner.look(connection);
      connection.keep();
    }
    changed.length = 0;
  };

  /** A greeting must not overtake a ClientHello: whoever speaks TLS speaks at once, and could not make sense of it. */
  private serverFirst(connection: ProxyConnection): void {
    const quietMs = this.engine.nowMs() - connection.openingSinceMs;
    if (connection.search?.tls === true && quietMs < SILENCE_MS) {
      return this.engine.deadline(connection.client, Math.ceil(SILENCE_MS - quietMs));
    }
    this.settle(connection, 'opaque', 'server');
  }

  private read(connection: ProxyConnection, tls: boolean): void {
    if (!tls) return this.readPlain(connection);
    const hello = readClientHello(connection.held);
    switch (hello.kind) {
      case 'hello':
        this.stop(connection);
        return this.owner.sawTls(connection, hello.serverName ?? '');
      case 'not-tls':
        return this.readPlain(connection);
      case 'malformed':
        return this.owner.unreadable(connection, `the TLS ClientHello is malformed: ${hello.why}`);
      case 'more':
        if (connection.clientEnded) {
          return this.owner.unreadable(connection, 'the client ended in the middle of a TLS ClientHello');
        }
        this.waitOn(connection);
    }
  }

  private readPlain(connection: ProxyConnection): void {
    const { held, search, scanned, clientEnded } = connection;
    const protocol = search?.http === false ? 'opaque' : readProtocol(held, scanned);
    if (protocol !== 'more') return this.settle(connection, protocol, 'client');
    if (clientEnded) return this.settle(connection, 'opaque', 'client');
    connection.scanned = held.length;
    this.waitOn(connection);
  }

  /** The rest of what has begun, in time from its first byte on. */
  private waitOn(connection: ProxyConnection): void {
    if (connection.openingDue) return;
    connection.openingDue = true;
    this.engine.deadline(connection.client, OPENING_MS);
  }

  private settle(connection: ProxyConnection, protocol: Protocol, first: 'client' | 'server'): void {
    this.stop(connection);
    this.owner.sawProtocol(connection, protocol, first);
  }

  private stop(connection: ProxyConnection): void {
    this.engine.deadline(connection.client, 0);
    this.engine.pause(connection.client);
    if (connection.upstreamStage === 'ready') this.engine.pause(connection.upstream);
  }
}

/**
 * Whether a connection that settles on a protocol says anything of those to come. Where nobody has said a word, as when a probe leaves again or
 * a server ends at once, it does not.
 */
export function isTelling(connection: ProxyConnection): boolean {
  return connection.held.length > 0 || hasServerSpoken(connection);
}

/** What servers of HTTP/2 begin with, whoever their client is, is no word. */
function hasServerSpoken({ heldUpstream }: ProxyConnection): boolean {
  return heldUpstream.length > 0 && !opensAsHttp2Server(heldUpstream);
}
