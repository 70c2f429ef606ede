/** A socket engine in the test's own thread, with a record of everything it told. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type {
  LocalAddress,
  OriginalDestination,
  PeerAddress,
  SocketAddress,
} from '../../proxy/core/address.ts';
import { parseSocketAddress } from '../../proxy/core/address.ts';
import { ENGINE_FIGURES } from '../../proxy/metrics/families.ts';
import { SLAB_SLOTS } from '../../proxy/metrics/slab.ts';
import { loadBinding } from '../../proxy/native/binding.ts';
import { type ConnectionId, Engine, type EngineHandler, RELAY_OPERATION } from '../../proxy/native/engine.ts';
import { closeListener, listenerPort, openListener } from '../../proxy/native/listener.ts';
import type { TlsReport } from '../../proxy/native/tls-report.ts';

/** Longest a condition may take to come true, in ms: generous, since the machine may be busy with other tests. */
export const PATIENCE_MS = 20_000;

/** How a connection ended. */
export interface Ending {
  readonly errno: number;
  readonly byOther: boolean;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** The TLS alert that ended it, if one did; 256 more when the engine sent it. */
  readonly alert?: number;
}

/** What became of one connection of the engine. */
export class Seen {
  readonly id: ConnectionId;
  readonly listener: number | undefined;
  readonly peer: PeerAddress | undefined;
  readonly local: LocalAddress | undefined;
  readonly original: OriginalDestination | undefined;
  /** What arrived, unless `script.data` took it. */
  readonly received: Buffer[] = [];
  /** Names of events other than data, in order. */
  readonly events: string[] = [];
  /** Reactions of this test to this connection. */
  script: Script = {};
  /** Every `closed` that named this id: more than one is a bug. */
  readonly endings: Ending[] = [];
  readonly connectFailures: number[] = [];
  /** Reports of handshakes, good or bad. */
  readonly handshakes: TlsReport[] = [];

  constructor(
    id: ConnectionId,
    listener?: number,
    peer?: PeerAddress,
    local?: LocalAddress,
    original?: OriginalDestination,
  ) {
    this.id = id;
    this.listener = listener;
    this.peer = peer;
    this.local = local;
    this.original = original;
  }

  get text(): string {
    return Buffer.concat(this.received).toString('latin1');
  }

  get gone(): boolean {
    return this.endings.length + this.connectFailures.length > 0;
  }

  count(event: string): number {
    return this.events.filter((name) => name === event).length;
  }
}

/** Reactions to events; without `data` received bytes are kept in `received`. */
export interface Script {
  readonly connected?: (seen: Seen) => void;
  readonly connectFailed?: (seen: Seen, errno: number) => void;
  readonly data?: (seen: Seen, offset: number, length: number) => void;
  readonly end?: (seen: Seen) => void;
  readonly blocked?: (seen: Seen) => void;
  readonly drained?: (seen: Seen) => void;
  readonly passed?: (seen: Seen, rest: number) => void;
  readonly deadline?: (seen: Seen) => void;
  readonly secured?: (seen: Seen, report: TlsReport) => void;
  readonly tlsFailed?: (seen: Seen, report: TlsReport) => void;
  readonly closed?: (seen: Seen, ending: Ending) => void;
}

/** The engine of this thread and its record; see `startEngine`. */
export class TestEngine implements EngineHandler {
  readonly metrics = new Float64Array(new SharedArrayBuffer(SLAB_SLOTS * 8));
  readonly engine: Engine;
  /** Live and ended connections by id; ids of ended ones are overwritten when they come back. */
  readonly connections = new Map<ConnectionId, Seen>();
  readonly accepts: Seen[] = [];
  readonly dead: { readonly id: ConnectionId; readonly operation: number }[] = [];
  /** Open connections that were asked for what does not fit them. */
  readonly mistaken: ConnectionId[] = [];
  readonly acceptPauses: number[] = [];
  acceptResumes = 0;
  /** Called for every accepted connection. */
  onAccepted: (seen: Seen) => void = () => {};
  private readonly descriptors: number[] = [];

  constructor() {
    this.engine = new Engine(this, this.metrics);
  }

  /** Listens on a free port of `address` and returns where. */
  listen(address = '127.0.0.1:0', transparent = false): SocketAddress {
    const wanted = at(address);
    const descriptor = openListener(wanted);
    if (descriptor < 0) throw new Error(`cannot listen on ${address}: errno ${-descriptor}`);
    this.descriptors.push(descriptor);
    this.engine.listen(descriptor, { transparent });
    return wanted.withPort(listenerPort(descriptor));
  }

  /** Connects; a failure that is known at once is thrown. */
  connect(remote: SocketAddress, script: Script = {}, track = false): Seen {
    const id = this.engine.connect(remote, track);
    if (id < 0) throw new Error(`connect to ${remote}: errno ${-id}`);
    const seen = new Seen(id);
    seen.script = script;
    this.connections.set(id, seen);
    return seen;
  }

  /** One of the engine's own figures, by the end of its name: `connections`, `queued_bytes`, `loop_turns_total`, … */
  figure(name: string): number {
    const index = ENGINE_FIGURES.findIndex((figure) => figure.name === `ferrule_engine_${name}`);
    if (index < 0) throw new Error(`no engine figure ${name}`);
    return this.metrics[index];
  }

  /** Stops the engine and waits until its thread can have another. */
  async stop(): Promise<void> {
    this.engine.stop();
    for (const descriptor of this.descriptors.splice(0)) closeListener(descriptor);
    // Handles are closed at the end of the loop's iteration.
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
  }

  accepted(
    id: ConnectionId,
    listener: number,
    peer: PeerAddress,
    local: LocalAddress | undefined,
    original: OriginalDestination | undefined,
    own: boolean,
  ): void {
    const seen = new Seen(id, listener, peer, local, original);
    if (own) seen.events.push('own');
    this.connections.set(id, seen);
    this.accepts.push(seen);
    this.onAccepted(seen);
  }

  connected(id: ConnectionId): void {
    const seen = this.note(id, 'connected');
    seen.script.connected?.(seen);
  }

  connectFailed(id: ConnectionId, errno: number): void {
    const seen = this.note(id, 'connectFailed');
    seen.connectFailures.push(errno);
    seen.script.connectFailed?.(seen, errno);
  }

  data(id: ConnectionId, offset: number, length: number): void {
    const seen = this.of(id);
    if (seen.script.data !== undefined) seen.script.data(seen, offset, length);
    else seen.received.push(Buffer.from(this.engine.slab.subarray(offset, offset + length)));
  }

  end(id: ConnectionId): void {
    const seen = this.note(id, 'end');
    seen.script.end?.(seen);
  }

  blocked(id: ConnectionId): void {
    const seen = this.note(id, 'blocked');
    seen.script.blocked?.(seen);
  }

  passed(id: ConnectionId, rest: number): void {
    const seen = this.note(id, 'passed');
    seen.script.passed?.(seen, rest);
  }

  drained(id: ConnectionId): void {
    const seen = this.note(id, 'drained');
    seen.script.drained?.(seen);
  }

  secured(id: ConnectionId, report: TlsReport): void {
    const seen = this.note(id, 'secured');
    seen.handshakes.push(report);
    seen.script.secured?.(seen, report);
  }

  tlsFailed(id: ConnectionId, report: TlsReport): void {
    const seen = this.note(id, 'tlsFailed');
    seen.handshakes.push(report);
    seen.script.tlsFailed?.(seen, report);
  }

  closed(
    id: ConnectionId,
    errno: number,
    byOther: boolean,
    bytesRead: number,
    bytesWritten: number,
    alert: number,
  ): void {
    const seen = this.note(id, 'closed');
    const ending = { errno, byOther, bytesRead, bytesWritten, ...(alert < 0 ? {} : { alert }) };
    seen.endings.push(ending);
    seen.script.closed?.(seen, ending);
  }

  deadline(id: ConnectionId): void {
    const seen = this.note(id, 'deadline');
    seen.script.deadline?.(seen);
  }

  acceptPaused(_listener: number, errno: number): void {
    this.acceptPauses.push(errno);
  }

  acceptResumed(): void {
    this.acceptResumes++;
  }

  deadOperation(id: ConnectionId, operation: number, other: ConnectionId): void {
    this.dead.push({ id, operation });
    if (other === id && operation !== RELAY_OPERATION) this.mistaken.push(id);
  }

  private note(id: ConnectionId, event: string): Seen {
    const seen = this.of(id);
    seen.events.push(event);
    return seen;
  }

  private of(id: ConnectionId): Seen {
    const seen = this.connections.get(id);
    if (seen === undefined) throw new Error(`the engine named a connection nobody knows: ${id}`);
    return seen;
  }
}

/** Starts the engine of this thread for one test; it is stopped, and the thread free for another, when the test ends. */
export function startEngine(t: Test): TestEngine {
  const testEngine = new TestEngine();
  t.teardown(() => testEngine.stop());
  return testEngine;
}

/** Sends back what arrives, and the end too. */
export function echo(engine: Engine): Script {
  return {
    data: (seen, offset, length) => engine.sendRange(seen.id, offset, length),
    end: (seen) => engine.shutdown(seen.id),
  };
}

/** An address from its text. */
export function at(text: string): SocketAddress {
  const address = parseSocketAddress(text);
  if (address === undefined) throw new Error(`not an address: ${text}`);
  return address;
}

/**
 * Waits until `condition` holds, looking every few milliseconds.
 * @throws after PATIENCE_MS, naming `what` was awaited
 */
export async function until(condition: () => boolean, what: string, patienceMs = PATIENCE_MS): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`still not after ${patienceMs} ms: ${what}`);
    await sleep(2);
  }
}

/**
 * An address where connecting neither succeeds nor fails: a listener nobody accepts from, its backlog full. Closed when
 * the test ends.
 */
export async function blackhole(t: Test, testEngine: TestEngine): Promise<SocketAddress> {
  const loopback = at('127.0.0.1:0');
  const descriptor = loadBinding().openListener(4 << 16, 0, 0, 0, loopback.w3 | 0, 0, 0);
  t.teardown(() => closeListener(descriptor));
  const address = loopback.withPort(listenerPort(descriptor));
  // A backlog of 0 holds one connection.
  const filler = testEngine.connect(address);
  await until(() => filler.count('connected') === 1, 'the backlog is full');
  return address;
}
