/** The clients, as a program that runs in the client pod: steady, moderate traffic to every service. */

import { setTimeout as pause } from 'node:timers/promises';
import { answerQuestions } from './agent.ts';
import { Latencies } from './latencies.ts';
import type { ClientService, Exchanges, Figures, Report } from './messages.ts';
import type { Session } from './session.ts';
import { openSession } from './sessions.ts';

/** Between two rounds of a client: some 80 a second each. */
const THINK_MS = 10;
/** After a failure: a service that is gone is not hammered. */
const SULK_MS = 500;
/** Then a client connects anew: balancing chooses an endpoint for each connection. Streams are balanced one by one: theirs stays. */
const EXCHANGES_PER_CONNECTION = 100;

class Tally {
  requests = 0;
  failures = 0;
  readonly latencies = new Latencies();

  read(): Exchanges {
    const { requests, failures, latencies } = this;
    return { requests, failures, p50Ms: latencies.quantile(0.5), p99Ms: latencies.quantile(0.99) };
  }

  clear(): void {
    this.requests = 0;
    this.failures = 0;
    this.latencies.clear();
  }
}

class ServiceTraffic {
  readonly service: ClientService;
  private readonly all = new Tally();
  private readonly recent = new Tally();

  constructor(service: ClientService) {
    this.service = service;
  }

  /** A connection that has proved its worth in an exchange that is not counted. */
  async connect(): Promise<Session> {
    const session = await openSession(this.service);
    try {
      await session.exchange(0);
      return session;
    } catch (error) {
      session.close();
      throw error;
    }
  }

  /** One client, until the traffic stops; it begins with `connected` if there is one. */
  async run(first: number, connected?: Session): Promise<void> {
    const { streams } = this.service;
    let session = connected;
    for (let round = first; !stopping; round++) {
      session = await this.round(round, session);
      if (session === undefined) {
        await pause(SULK_MS);
      } else if (streams === 1 && round % EXCHANGES_PER_CONNECTION === 0) {
        session.close();
        session = undefined;
      }
      await pause(THINK_MS);
    }
    session?.close();
  }

  figures(): Figures {
    const figures = { all: this.all.read(), recent: this.recent.read() };
    this.recent.clear();
    return figures;
  }

  /** An exchange on each stream at once. @returns the connection; undefined when something failed, and it is closed */
  private async round(round: number, connected: Session | undefined): Promise<Session | undefined> {
    const { streams } = this.service;
    let session = connected;
    try {
      session ??= await openSession(this.service);
    } catch (error) {
      this.failed(error);
      return undefined;
    }
    const exchanges = Array.from({ length: streams }, (_, stream) => round * streams + stream);
    const results = await Promise.all(exchanges.map((exchange) => this.exchange(session, exchange)));
    if (results.every((succeeded) => succeeded)) return session;
    session.close();
    return undefined;
  }

  private async exchange(session: Session, round: number): Promise<boolean> {
    try {
      const startMs = performance.now();
      await session.exchange(round);
      this.succeeded(performance.now() - startMs);
      return true;
    } catch (error) {
      this.failed(error);
      return false;
    }
  }

  private succeeded(ms: number): void {
    all.record(ms);
    for (const tally of [this.all, this.recent]) {
      tally.requests++;
      tally.latencies.record(ms);
    }
  }

  private failed(error: unknown): void {
    for (const tally of [this.all, this.recent]) {
      tally.requests++;
      tally.failures++;
    }
    lastFailure = `${this.service.name}: ${error instanceof Error ? error.message : String(error)}`;
  }
}

const all = new Latencies();
const traffic: ServiceTraffic[] = [];
const clients: Promise<void>[] = [];
let lastFailure: string | undefined;
let stopping = false;

answerQuestions(async (question) => {
  switch (question.ask) {
    case 'add':
      return add(question.service);
    case 'report':
      return report();
    case 'stop':
      stopping = true;
      await Promise.all(clients);
      return true;
    default:
      throw new Error(`clients do not ${question.ask}`);
  }
});

async function add(service: ClientService): Promise<true> {
  const added = new ServiceTraffic(service);
  const connected = await added.connect();
  traffic.push(added);
  for (let n = 0; n < service.clients; n++) {
    // Different rounds: clients do not all connect anew at once, nor ask the same.
    const first = 1 + Math.round((n * EXCHANGES_PER_CONNECTION) / service.clients);
    clients.push(added.run(first, n === 0 ? connected : undefined));
  }
  return true;
}

function report(): Report {
  return {
    services: Object.fromEntries(traffic.map((one) => [one.service.name, one.figures()])),
    p50Ms: all.quantile(0.5),
    p99Ms: all.quantile(0.99),
    lastFailure,
  };
}
