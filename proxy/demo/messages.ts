/** What the demo and its two Node programs, the clients and the servers, say to each other. */

import type { BuiltIn, Place, Protocol } from './services.ts';

/** A service as the clients see it. */
export interface ClientService {
  readonly name: string;
  readonly protocol: Protocol;
  /** Where the clients dial; they know of no proxy. */
  readonly dial: Place;
  /** How many of them there are, each with one connection. */
  readonly clients: number;
  /** Exchanges at a time on a connection; 1 where the protocol has no streams. */
  readonly streams: number;
  /** Of the databases. */
  readonly password?: string;
}

/** Exchanges of one service. */
export interface Exchanges {
  readonly requests: number;
  readonly failures: number;
  /** Of those that succeeded, in milliseconds; 0 without any. */
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** What the clients of one service have measured. */
export interface Figures {
  /** Since the start. */
  readonly all: Exchanges;
  /** Since the last report. */
  readonly recent: Exchanges;
}

/** What the clients have measured. */
export interface Report {
  readonly services: Readonly<Record<string, Figures>>;
  /** Since the start, over all services; in milliseconds, 0 without requests. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** The reason of the latest failure. */
  readonly lastFailure: string | undefined;
}

/** Each gets one answer. */
export type Question =
  | { readonly ask: 'serve'; readonly servers: readonly Server[] }
  /** One exchange, then steady traffic if it succeeds. */
  | { readonly ask: 'add'; readonly service: ClientService }
  | { readonly ask: 'report' }
  /** Ends the traffic, open exchanges first. */
  | { readonly ask: 'stop' }
  /** The metrics of the sidecar of the pod. */
  | { readonly ask: 'scrape'; readonly url: string };

/** What the answers hold; a failure to answer is a text. */
export interface Answers {
  /** The ports, in the order asked for. */
  serve: readonly number[];
  add: true;
  report: Report;
  stop: true;
  scrape: string;
}

/** A built-in server; port 0 takes any free port. */
export interface Server {
  readonly protocol: BuiltIn;
  /** What it says it is called. */
  readonly name: string;
  readonly listen: Place;
}

/** On the channel, from the demo: a question and its number. */
export interface Asked {
  readonly id: number;
  readonly question: Question;
}

/** On the channel, to the demo: the answer to the question of that number, or why there is none. */
export interface Answered {
  readonly id: number;
  readonly answer?: unknown;
  readonly error?: string;
}
