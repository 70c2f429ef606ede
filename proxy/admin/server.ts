/**
 * The HTTP server under the admin port: what its two back ends have in common. uWebSockets.js serves where it loads (it is an
 * optional peer dependency and needs glibc 2.38), node:http otherwise; a handler cannot tell them apart.
 */
import type { SocketAddress } from '../core/address.ts';
import { EXIT, UserError } from '../core/errors.ts';
import { log } from '../core/log.ts';

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

/** A complete answer. Content-Length is added. */
export interface AdminResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
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
  /** Stops listening at once, lets answers under way end for `closeGraceMs`, then cuts what is left. */
  close(): Promise<void>;
}

/** The best back end that loads here. */
export async function createBackend(handler: AdminHandler): Promise<AdminBackend> {
  const uws = await loadUws();
  if (uws !== undefined) return new (await import('./uws-server.ts')).UwsBackend(uws, handler);
  return new (await import('./node-server.ts')).NodeBackend(handler);
}

/**
 * Listens on every address or none. IPv6 addresses are left out, with a warning, where the kernel has no IPv6 and another
 * address works: the default is to listen on both families.
 * @throws UserError (EXIT.os) that names the address and says what to do
 */
export async function listenOnAll(
  backend: AdminBackend,
  addresses: readonly SocketAddress[],
): Promise<SocketAddress[]> {
  const bound: SocketAddress[] = [];
  const left: UserError[] = [];
  // IPv6 first, because a back end whose IPv6 listener takes IPv4 as well must know it before it is asked for IPv4.
  for (const address of addresses.toSorted((a, b) => b.family - a.family)) {
    try {
      bound.push(await backend.listen(address));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      const explained = listenError(address, code, error);
      if (code !== 'EAFNOSUPPORT') {
        await backend.close();
        throw explained;
      }
      left.push(explained);
    }
  }
  if (bound.length === 0 && left.length > 0) throw left[0];
  for (const { message } of left) log.warn(message);
  return bound;
}

/** A plain text answer. */
export function text(status: number, body: string, headers: Record<string, string> = {}): AdminResponse {
  return { status, headers: { 'Content-Type': 'text/plain; charset=utf-8', ...headers }, body: `${body}\n` };
}

/** The answer to a body above `ADMIN_LIMITS.bodyBytes`; the connection is closed with it. */
export function tooLarge(): AdminResponse {
  return text(413, `the body is larger than ${ADMIN_LIMITS.bodyBytes} bytes`, { Connection: 'close' });
}

function listenError(address: SocketAddress, code: string | undefined, cause: unknown): UserError {
  const what =
    code === 'EADDRINUSE'
      ? 'it is in use. Another proxy may be running: stop it, or choose another address'
      : code === 'EACCES'
        ? 'not permitted: choose a port from 1024 up'
        : code === 'EADDRNOTAVAIL'
          ? 'this host has no such address: choose another'
          : `${code === 'EAFNOSUPPORT' ? 'this kernel has no IPv6' : String(cause)}: choose another address`;
  const message = `the admin server cannot listen on ${address}: ${what} (admin.listen)`;
  return new UserError(message, EXIT.os, { cause });
}

/** The module, or undefined with one log line that says why. */
async function loadUws(): Promise<unknown> {
  // In a variable, because the type checker must not look for a package that is normally absent.
  const name: string = 'uWebSockets.js';
  try {
    const module = (await import(name)) as { default?: unknown };
    return module.default ?? module;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const absent = code === 'ERR_MODULE_NOT_FOUND' && message.includes(`'${name}'`);
    if (absent) log.info('the admin server runs on node:http: uWebSockets.js is not installed');
    else log.warn('the admin server runs on node:http: uWebSockets.js does not load', { reason: message });
    return undefined;
  }
}
