/**
 * The HTTP server under the admin port. uWebSockets.js serves where it loads (it is an optional peer dependency and needs
 * glibc 2.38), node:http otherwise.
 */
import type { SocketAddress } from '../core/address.ts';
import { EXIT, UserError } from '../core/errors.ts';
import { log } from '../core/log.ts';
import type { AdminBackend, AdminHandler } from './backend.ts';

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
