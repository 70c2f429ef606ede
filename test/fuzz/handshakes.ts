/** How the fuzzed connections come to TLS: at once or after their first bytes were looked at, in both roles. */

import type { TlsContext } from '../../proxy/native/engine.ts';
import { tlsParameters } from '../../proxy/native/tls-parameters.ts';
import type { ScriptOptions } from '../support/tls-script.ts';
import type { FuzzBench, FuzzConnection } from './model.ts';

/** `EngineHandler.closed` gives the alert that ended a connection; those from here on we sent. */
const OURS = 0x100;

/** The handshakes of one round. */
export class FuzzHandshakes {
  private readonly bench: FuzzBench;
  private readonly identity: ScriptOptions;
  private context: TlsContext;

  constructor(bench: FuzzBench, identity: ScriptOptions) {
    this.bench = bench;
    this.identity = identity;
    this.context = this.makeContext();
  }

  /** Until it is secured nothing may be sent on `connection`, and nothing be relayed. */
  expect(connection: FuzzConnection): void {
    connection.tls = connection.doubtful = true;
  }

  accepted(connection: FuzzConnection): void {
    const { engine, random } = this.bench;
    if (random.chance(50)) return this.accept(connection);
    connection.hello = [];
    engine.resume(connection.id);
  }

  connected(connection: FuzzConnection): void {
    const { engine, random } = this.bench;
    // Ended in the clear while it was on its way: there is no TLS any more.
    if (connection.shut) return engine.reset(connection.id);
    const parameters = random.chance(50)
      ? tlsParameters('', [])
      : tlsParameters('server.test', ['transport.l5d.io/v1', 'h2']);
    engine.connectTls(connection.id, this.context, parameters);
    this.meddle(connection);
  }

  /**
   * Bytes, or the end, of a connection whose beginning is looked at: once this batch is over they are given back, and
   * TLS begins with them.
   * @returns false where nothing is looked at
   */
  looked(connection: FuzzConnection, bytes: Uint8Array): boolean {
    const { hello } = connection;
    if (hello === undefined) return false;
    hello.push(Buffer.from(bytes));
    // A batch may bring several pieces.
    if (hello.length === 1) queueMicrotask(() => this.bench.guard(() => this.begin(connection, hello)));
    return true;
  }

  secured(connection: FuzzConnection): void {
    this.bench.summary.secured++;
    connection.doubtful = false;
    if (connection.greeting !== undefined && !connection.shut) {
      this.bench.engine.send(connection.id, connection.greeting);
    }
  }

  /** @throws when the peer did nothing to deserve it */
  failed({ tls, peer }: FuzzConnection): void {
    if (!tls) throw new Error('a handshake failed that nobody began');
    if (peer?.writable) throw new Error('a handshake failed that nobody disturbed');
    this.bench.summary.handshakesFailed++;
  }

  /** @throws when we accuse a peer of what it did not do */
  judge({ peer }: FuzzConnection, alert: number): void {
    // Which peer a connection has that we dialled is not known before it was secured.
    if (alert >= OURS && peer?.spoiled === false)
      throw new Error(`we sent alert ${alert - OURS} to an honest peer`);
  }

  /** A new context in place of the old, whose connections go on. */
  renew(): void {
    this.bench.engine.dropContext(this.context);
    this.context = this.makeContext();
  }

  private begin(connection: FuzzConnection, hello: readonly Buffer[]): void {
    connection.hello = undefined;
    if (connection.state === 'gone') return;
    // Ended in the clear: there is no TLS any more.
    if (connection.shut) return this.bench.engine.reset(connection.id);
    this.bench.engine.unread(connection.id, Buffer.concat(hello));
    this.accept(connection);
  }

  private accept(connection: FuzzConnection): void {
    this.bench.engine.acceptTls(connection.id, this.context);
    this.meddle(connection);
  }

  /** What must be refused while a handshake is on its way: its first answer is a turn away at least. */
  private meddle(connection: FuzzConnection): void {
    const { engine, random } = this.bench;
    if (!random.chance(10)) return;
    connection.refusals++;
    engine.send(connection.id, Buffer.from('too early'));
    engine.unread(connection.id, Buffer.from('of nobody'));
    engine.acceptTls(connection.id, this.context);
  }

  private makeContext(): TlsContext {
    const { credential, anchors } = this.identity;
    return this.bench.engine.makeContext(credential.certificatePem, credential.keyPem, anchors);
  }
}
