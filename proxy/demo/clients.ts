/** The clients, as a program that runs in the client pod: steady, moderate traffic to every service. */

import { setTimeout as pause } from 'node:timers/promises';
import { answerQuestions } from './agent.ts';
import { Latencies } from './latencies.ts';
import type { ClientService, Figures, Report } from './messages.ts';
import { openSession, type Session } from './sessions.ts';

/** Between two exchanges of a client: some 80 a second each, a tenth of a processor for all processes together. */
const THINK_MS = 10;
/** After a failure: a service that is gone is not hammered. */
const SULK_MS = 500;
/** Then a client connects anew: balancing chooses an endpoint for each connection. */
const EXCHANGES_PER_CONNECTION = 100;

class ServiceTraffic {
  readonly service: ClientService;
  private requests = 0;
  private failures = 0;
  private reported = { requests: 0, failures: 0 };
  private readonly recent = new Latencies();

  constructor(service: ClientService) {
    this.service = service;
  }

  /** One exchange on a connection of its own, not counted. */
  async prove(): Promise<void> {
    const session = await openSession(this.service);
    try {
      await session.exchange(0);
    } finally {
      session.close();
    }
  }

  /** One client, until the traffic stops. */
  async run(first: number): Promise<void> {
    let session: Session | undefined;
    for (let round = first; !stopping; round++) {
      try {
        session ??= await openSession(this.service);
        const startMs = performance.now();
        await session.exchange(round);
        this.succeeded(performance.now() - startMs);
      } catch (error) {
        this.failed(error);
        session?.close();
        session = undefined;
        await pause(SULK_MS);
      }
      if (round % EXCHANGES_PER_CONNECTION === 0) {
        session?.close();
        session = undefined;
      }
      await pause(THINK_MS);
    }
    session?.close();
  }

  figures(): Figures {
    const { requests, failures, reported, recent } = this;
    const figures = {
      requests,
      failures,
      recentRequests: requests - reported.requests,
      recentFailures: failures - reported.failures,
      recentP50Ms: recent.quantile(0.5),
      recentP99Ms: recent.quantile(0.99),
    };
    this.reported = { requests, failures };
    recent.clear();
    return figures;
  }

  private succeeded(ms: number): void {
    this.requests++;
    this.recent.record(ms);
    all.record(ms);
  }

  private failed(error: unknown): void {
    this.requests++;
    this.failures++;
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
  await added.prove();
  traffic.push(added);
  for (let n = 0; n < service.clients; n++) {
    // Different rounds: clients do not all connect anew at once, nor ask the same.
    clients.push(added.run(1 + Math.round((n * EXCHANGES_PER_CONNECTION) / service.clients)));
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
