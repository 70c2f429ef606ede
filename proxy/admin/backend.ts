/**
 * What a handler and the two HTTP back ends of the admin port agree on: a handler cannot tell them apart.
 */
import type { SocketAddress } from '../core/address.ts';

/** Bounds of every admin connection, the same in both back ends. */
export const ADMIN_LIMITS = {
  /** A log level or a tap filter fits many times; more is a mistake or an attack. */
  bodyBytes: 65_536,
  /** Headers complete. Probes give up after 1 s by default, so nobody honest takes longer. */
  headersMs: 5_000,
  /** Request complete, body included. */
  requestMs: 10_000,
  /** Between requests: just above the usual scrape interval of 60 s, so that a scraper keeps its connection. */
  keepAliveMs: 65_000,
  /** Together: probes, two scrapers and a dozen commands leave most of it free. */
  connections: 256,
  /** From one address, so that one misbehaving neighbour cannot keep the probes out. */
  connectionsPerPeer: 32,
  /** Between two lines of a held answer: some servers end connections that are idle for 10 s. */
  heartbeatMs: 4_000,
  /** How long `close` lets answers under way end. */
  closeGraceMs: 1_000,
} as const;

/** One complete request. */
export interface AdminRequest {
  /** Upper case. */
  readonly method: string;
  /** As sent, without the query; not decoded. */
  readonly path: string;
  /** Behind the question mark, not decoded; empty when there is none. */
  readonly query: string;
  /** By lower-case name; every value of a header that was sent more than once. */
  readonly headers: ReadonlyMap<string, readonly string[]>;
  /** The peer's IP, port 0; undefined when the peer was gone before it could be asked for. */
  readonly remote: SocketAddress | undefined;
  readonly body: Buffer;
}

/** An answer. Content-Length is added. */
export interface AdminResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
  /**
   * Given, the answer has no end of its own: after the body comes an empty line now and then until the peer goes or the server
   * closes. This is then called, once. Content-Length is left out.
   */
  readonly held?: () => void;
}

/** Answers a request. Never rejects. */
export type AdminHandler = (request: AdminRequest) => Promise<AdminResponse>;

/** A server that listens on any number of addresses. */
export interface AdminBackend {
  readonly name: 'uWebSockets.js' | 'node:http';
  /**
   * Starts listening; port 0 takes a free one.
   * @returns the address with its port
   * @throws an error with the `code` of the system call
   */
  listen(address: SocketAddress): Promise<SocketAddress>;
  /** Stops listening and ends held answers at once, lets others under way end for `closeGraceMs`, then cuts what is left. */
  close(): Promise<void>;
}

/** A plain text answer. */
export function text(status: number, body: string, headers: Record<string, string> = {}): AdminResponse {
  return { status, headers: { 'Content-Type': 'text/plain; charset=utf-8', ...headers }, body: `${body}\n` };
}

/** The answer to a body above `ADMIN_LIMITS.bodyBytes`; the connection is closed with it. */
export function tooLarge(): AdminResponse {
  return text(413, `the body is larger than ${ADMIN_LIMITS.bodyBytes} bytes`, { Connection: 'close' });
}
