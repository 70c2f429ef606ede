/**
 * The first bytes of an inbound connection: whether they are TLS, and for whom. Reads as often as it must; what it read
 * stays in `connection.held` until somebody passes it on.
 *
 * Where plaintext is allowed a silent client does not hold anything up: the upstream is dialled as well, and whoever speaks
 * first decides (MySQL, SMTP and others speak first).
 */
import type { ProxyConnection } from '../model/connection.ts';
import type { Engine } from '../native/engine.ts';
import { readClientHello } from './client-hello.ts';

/** How long a client may be silent before the upstream is dialled as well, in ms: DESIGN section 4. */
const SILENCE_MS = 50;

/** How long a ClientHello may take from its first byte, or a client that must speak TLS to begin, in ms: Linkerd's. */
const HELLO_MS = 10_000;

/** What the spine is told. */
export interface OpeningOwner {
  /** The client speaks TLS and asks for `serverName` (empty: for nobody). */
  sawTls(connection: ProxyConnection, serverName: string): void;
  /** It speaks something else, or the server spoke first. */
  sawPlaintext(connection: ProxyConnection, first: 'client' | 'server'): void;
  /** It is silent: dial the upstream as well. */
  silent(connection: ProxyConnection): void;
  /** It began like TLS and cannot be understood, or did not begin at all. */
  unreadable(connection: ProxyConnection, message: string): void;
}

/** Waits for first bytes, for one worker. */
export class Opening {
  private readonly engine: Engine;
  private readonly owner: OpeningOwner;

  constructor(engine: Engine, owner: OpeningOwner) {
    this.engine = engine;
    this.owner = owner;
  }

  /**
   * Starts reading.
   * @param race plaintext is allowed, so that a silent client may be one whose server speaks first
   * @param atOnce … and probably is: do not wait at all
   */
  start(connection: ProxyConnection, race: boolean, atOnce: boolean): void {
    connection.stage = 'opening';
    connection.openingSinceMs = performance.now();
    connection.racing = race;
    this.engine.resume(connection.client);
    if (race && atOnce) return this.owner.silent(connection);
    this.engine.deadline(connection.client, race ? SILENCE_MS : HELLO_MS);
  }

  /** An upstream that was dialled for a silent client is there: listen to it too. */
  listenToUpstream(connection: ProxyConnection): void {
    this.engine.resume(connection.upstream);
  }

  /** The client's deadline has passed. */
  timedOut(connection: ProxyConnection): void {
    const held = connection.held.length;
    if (connection.racing && held === 0) return this.owner.silent(connection);
    const what =
      held === 0 ? 'the client sent nothing' : `the client stalled after ${held} bytes of a TLS ClientHello`;
    this.owner.unreadable(connection, `${what} for ${HELLO_MS} ms`);
  }

  /** Something is new in what is held, or an end was seen. Call it when all that came together is known. */
  decide(connection: ProxyConnection): void {
    const { held, heldUpstream } = connection;
    if (held.length === 0) {
      const serverSpoke = heldUpstream.length > 0 || connection.upstreamEnded;
      if (serverSpoke) return this.settle(connection, () => this.owner.sawPlaintext(connection, 'server'));
      // An end without a byte is for the application to make sense of.
      if (connection.clientEnded)
        this.settle(connection, () => this.owner.sawPlaintext(connection, 'client'));
      return;
    }
    const hello = readClientHello(held);
    switch (hello.kind) {
      case 'hello':
        return this.settle(connection, () => this.owner.sawTls(connection, hello.serverName ?? ''));
      case 'not-tls':
        return this.settle(connection, () => this.owner.sawPlaintext(connection, 'client'));
      case 'malformed':
        return this.owner.unreadable(connection, `the TLS ClientHello is malformed: ${hello.why}`);
      case 'more':
        if (connection.clientEnded) {
          return this.owner.unreadable(connection, 'the client ended in the middle of a TLS ClientHello');
        }
        this.waitOn(connection);
    }
  }

  /** The rest of the hello, from its first byte on. */
  private waitOn(connection: ProxyConnection): void {
    if (connection.helloDue) return;
    connection.helloDue = true;
    this.engine.deadline(connection.client, HELLO_MS);
  }

  private settle(connection: ProxyConnection, tell: () => void): void {
    this.engine.deadline(connection.client, 0);
    this.engine.pause(connection.client);
    if (connection.upstreamStage === 'ready') this.engine.pause(connection.upstream);
    tell();
  }
}
