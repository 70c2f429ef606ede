/**
 * Who may use what. Probes and scrapers come from anywhere and may read three pages; everything else is for a local process that can
 * read the token, and never for a web page that a browser on this machine happens to show: a page of another origin sends its
 * Origin, and a page whose name was made to resolve to 127.0.0.1 sends its name as Host.
 */
import { isLoopback, parseIp, parsePort } from '../core/address.ts';
import { type AdminRequest, type AdminResponse, text } from './backend.ts';
import type { AdminToken } from './token.ts';

/** The refusal of a request to a protected page, or undefined when it may pass. */
export function refuse(request: AdminRequest, token: AdminToken): AdminResponse | undefined {
  const { headers, remote } = request;
  if (remote === undefined || !isLoopback(remote)) {
    return text(403, 'refused: this page answers on loopback only');
  }
  const host = headers.get('host') ?? [];
  if (host.length !== 1 || !isLocalHost(host[0])) {
    return text(403, 'refused: the Host header must name localhost or a loopback address');
  }
  const origins = headers.get('origin') ?? [];
  if (!origins.every((origin) => origin === `http://${host[0]}`)) {
    return text(403, 'refused: the Origin header names another site');
  }
  const challenge = { 'WWW-Authenticate': 'Bearer' };
  if (token.file === undefined) {
    return text(403, 'refused: the proxy could not write an admin token; set admin.tokenFile');
  }
  const presented = bearer(headers.get('authorization') ?? []);
  if (presented === undefined) {
    return text(
      401,
      `refused: send "Authorization: Bearer TOKEN" with the token in ${token.file}`,
      challenge,
    );
  }
  if (!token.matches(presented)) {
    return text(401, `refused: the token is not the one in ${token.file}`, challenge);
  }
  return undefined;
}

/** `localhost`, 127.0.0.0/8 or [::1], with or without a port. */
function isLocalHost(host: string): boolean {
  const match = /^(\[[^\]]+\]|[^:]+)(?::(.*))?$/.exec(host);
  if (match === null || (match[2] !== undefined && parsePort(match[2]) === undefined)) return false;
  const name = match[1].toLowerCase();
  if (name === 'localhost') return true;
  const bracketed = name.startsWith('[');
  const address = parseIp(bracketed ? name.slice(1, -1) : name);
  return address !== undefined && isLoopback(address);
}

/** The token of a single Authorization header with the Bearer scheme (RFC 6750 section 2.1). */
function bearer(values: readonly string[]): string | undefined {
  if (values.length !== 1) return undefined;
  return /^bearer +([A-Za-z0-9._~+/=-]+)$/i.exec(values[0])?.[1];
}
