/**
 * Keeps the worker threads running. A worker that throws is logged with its stack and replaced; its engine has reset its
 * connections by then, everybody else's go on.
 */
import { Worker } from 'node:worker_threads';
import { log } from '../core/log.ts';
import { ENGINE_FIGURES } from '../metrics/families.ts';
import type { MetricsRegistry } from '../metrics/registry.ts';
import { SLAB_BYTES } from '../metrics/slab.ts';
import type { Explanation } from '../model/explanation.ts';
import {
  type FromWorker,
  type ListenerGrant,
  type OwnIdentity,
  type Side,
  sideOf,
  type ToWorker,
  type WorkerSettings,
} from '../model/messages.ts';
import type { AccessOutput } from './access-output.ts';
import { restrainCompiler } from './compiler.ts';
import type { Discovery } from './discovery.ts';
import { Explanations } from './explanations.ts';
import { Publisher } from './publisher.ts';

/**
 * Young generation of a worker in MB. Its garbage is short-lived objects of a few hundred bytes per connection: a small
 * nursery keeps them in the processor's cache and the memory at rest low; V8's default would let 16 MB pile up.
 */
const YOUNG_GENERATION_MB = 2;

/** A worker that lived shorter than this before it threw is replaced only after a pause, in ms. */
const SHORT_LIFE_MS = 1_000;
const PAUSE_MS = 500;

/** The slots of an engine's own counts. */
const CONNECTIONS_FIGURE = ENGINE_FIGURES.findIndex(({ name }) => name === 'ferrule_engine_connections');
const ACCEPTED_FIGURE = ENGINE_FIGURES.findIndex(({ name }) => name === 'ferrule_engine_accepted_total');

/** What all workers are told. */
export type SharedSettings = Omit<WorkerSettings, 'worker' | 'metrics' | 'listeners' | 'identity'>;

interface Member {
  readonly thread: Worker;
  readonly publisher: Publisher;
  readonly number: number;
  readonly metrics: Float64Array;
  readonly startedMs: number;
  /** The last identity it could not use, until it has one that it can. */
  refusal: IdentityRefusal | undefined;
}

type IdentityRefusal = Extract<FromWorker, { readonly type: 'identity-refused' }>;

/** What concerns every worker alike for as long as it lives. */
export type Announcement = Exclude<
  ToWorker,
  { readonly type: 'target' | 'forgotten' | 'unlisten' | 'explain' }
>;

interface Unlistening {
  readonly waiting: Set<Member>;
  readonly done: () => void;
}

/** The worker threads of a proxy. */
export class Workers {
  private readonly script: URL;
  private readonly settings: SharedSettings;
  private readonly grants: readonly (readonly ListenerGrant[])[];
  private readonly discovery: Discovery;
  private readonly registry: MetricsRegistry;
  private readonly access: AccessOutput;
  private readonly onIdentityRefused: (version: number) => void;
  private readonly members = new Map<number, Member>();
  /** Also those that are still starting. */
  private readonly living = new Set<Member>();
  private readonly announced = new Map<Announcement['type'], Announcement>();
  /** Sides that accept no more, and who has yet to say so. */
  private readonly unlistening = new Map<Side, Unlistening>();
  private readonly explanations = new Explanations();
  private identity: OwnIdentity | undefined;
  private nextNumber = 0;
  private stopping = false;
  /** Workers that threw and were replaced. */
  restarts = 0;

  /** @param grants the listeners of each worker: its length is their number */
  constructor(
    script: URL,
    settings: SharedSettings,
    grants: readonly (readonly ListenerGrant[])[],
    parts: {
      discovery: Discovery;
      registry: MetricsRegistry;
      /** Writes their access log. */
      access: AccessOutput;
      /** Called by every worker that cannot use an identity. */
      onIdentityRefused: (version: number) => void;
    },
  ) {
    this.script = script;
    this.settings = settings;
    this.grants = grants;
    this.discovery = parts.discovery;
    this.registry = parts.registry;
    this.access = parts.access;
    this.onIdentityRefused = parts.onIdentityRefused;
  }

  /** True when every worker accepts connections. */
  get ready(): boolean {
    return this.members.size === this.grants.length;
  }

  /** Why a worker cannot prove who we are at `nowMs` (since 1970); undefined when all can. */
  unproven(nowMs: number): string | undefined {
    const refusal = [...this.living]
      .map((member) => member.refusal)
      .find((each) => each !== undefined && each.untilMs <= nowMs);
    return refusal === undefined ? undefined : `identity: a worker has none it can use: ${refusal.problem}`;
  }

  /** Sockets the engines hold now. */
  connections(): number {
    let sum = 0;
    for (const { metrics } of this.members.values()) sum += metrics[CONNECTIONS_FIGURE];
    return sum;
  }

  /** Starts every worker; resolves when all accept. Rejects when one throws before that. */
  async start(): Promise<void> {
    restrainCompiler();
    await Promise.all(this.grants.map((_, place) => this.launch(place)));
  }

  /** Tells every worker, and each replacement before anything else; of a type the newest message counts. */
  announce(message: Announcement): void {
    this.announced.set(message.type, message);
    for (const { thread } of this.living) thread.postMessage(message);
  }

  /** Gives every worker our newest identity, those that start later too. */
  setIdentity(identity: OwnIdentity): void {
    this.identity = identity;
    for (const { thread } of this.living)
      thread.postMessage({ type: 'identity', identity } satisfies ToWorker);
  }

  /** Connections the engines have accepted since their workers started. */
  accepted(): number {
    let sum = 0;
    for (const { metrics } of this.members.values()) sum += metrics[ACCEPTED_FIGURE];
    return sum;
  }

  /**
   * Makes every worker stop accepting on one side, replacements included; resolves when all have, and the listeners of that
   * side may be closed.
   */
  unlisten(side: Side): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const waiting = new Set(this.living);
    this.unlistening.set(side, { waiting, done: resolve });
    for (const { thread } of waiting) thread.postMessage({ type: 'unlisten', side } satisfies ToWorker);
    if (waiting.size === 0) resolve();
    return promise;
  }

  /**
   * What was decided for the request of that id, or for the latest ones of all workers, newest first.
   * @throws UserError that says why nothing can be told; see `Explanations`
   */
  explain(id: string | undefined): Promise<readonly Explanation[]> {
    return this.explanations.explain(id, this.living);
  }

  /** Ends all workers, once the access log is written; their open connections are reset. */
  async stop(): Promise<void> {
    this.stopping = true;
    await this.access.end([...this.living].map(({ thread }) => thread));
    await Promise.all([...this.living].map(({ thread }) => thread.terminate()));
  }

  private launch(place: number): Promise<void> {
    const number = this.nextNumber++;
    const metrics = new SharedArrayBuffer(SLAB_BYTES);
    const workerData: WorkerSettings = {
      ...this.settings,
      log: { ...this.settings.log, level: log.level, format: log.format },
      worker: number,
      metrics,
      identity: this.identity,
      listeners: this.grants[place].filter(({ role }) => !this.unlistening.has(sideOf(role))),
    };
    const thread = new Worker(this.script, {
      name: `ferrule ${number}`,
      workerData,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    });
    for (const message of this.announced.values()) thread.postMessage(message);
    const publisher = new Publisher(this.discovery, (message) => thread.postMessage(message));
    const member: Member = {
      thread,
      publisher,
      number,
      metrics: new Float64Array(metrics),
      startedMs: performance.now(),
      refusal: undefined,
    };
    this.registry.attach(number, metrics);
    this.living.add(member);
    return new Promise((resolve, reject) => {
      thread.on('message', (message: FromWorker) => {
        if (message.type !== 'ready') return this.receive(member, message);
        this.members.set(place, member);
        resolve();
      });
      thread.on('error', (error) => {
        log.error('a worker threw; its connections are reset', { worker: number, stack: stackOf(error) });
        reject(error);
      });
      thread.on('exit', () => {
        reject(new Error(`worker ${number} ended before it was ready`));
        this.ended(place, member);
      });
    });
  }

  private receive(member: Member, message: Exclude<FromWorker, { type: 'ready' }>): void {
    switch (message.type) {
      case 'look-up':
        return member.publisher.lookUp(message.key);
      case 'release':
        return member.publisher.release(message.key);
      case 'applied':
        return member.publisher.applied(message.key, message.version);
      case 'define':
        return this.registry.define(member.number, message.definition);
      case 'undefine':
        this.registry.undefine(member.number, message.slot);
        return member.thread.postMessage({ type: 'forgotten', slot: message.slot } satisfies ToWorker);
      case 'unlistened':
        return this.unlistened(member, message.side);
      case 'identity-taken':
        member.refusal = undefined;
        return;
      case 'identity-refused':
        member.refusal = message;
        return this.onIdentityRefused(message.version);
      case 'explained':
        return this.explanations.answered(message.call, message.explanations);
      case 'access':
        return this.access.write(member.thread, message);
      case 'log':
        return log.sink(message.line);
    }
  }

  private unlistened(member: Member, side: Side): void {
    const { waiting, done } = this.unlistening.get(side)!;
    waiting.delete(member);
    if (waiting.size === 0) done();
  }

  private ended(place: number, member: Member): void {
    this.living.delete(member);
    this.explanations.ended(member);
    for (const side of this.unlistening.keys()) this.unlistened(member, side);
    member.publisher.close();
    this.registry.detach(member.number);
    const wasReady = this.members.get(place) === member;
    if (wasReady) this.members.delete(place);
    // One that never became ready fails the start, or the replacement below, which tries again.
    if (this.stopping || !wasReady) return;
    this.replace(place, performance.now() - member.startedMs < SHORT_LIFE_MS ? PAUSE_MS : 0);
  }

  private replace(place: number, pauseMs: number): void {
    this.restarts++;
    setTimeout(() => {
      if (this.stopping) return;
      this.launch(place).then(
        () => log.info('worker replaced', { place }),
        () => this.replace(place, PAUSE_MS),
      );
    }, pauseMs);
  }
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
