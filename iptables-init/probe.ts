/** One real connection, and whether the kernel delivered it to the outbound port of this network namespace. */

import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import { Cidr, parseIp, SocketAddress } from '../proxy/core/address.ts';
import { includesPort } from './ports.ts';
import type { CaptureOptions, Family } from './rules.ts';

/** What became of the test connection. */
export type ProbeResult =
  /** It reached the outbound port: `by` a proxy that was listening there, or by ourselves. */
  | { readonly kind: 'captured'; readonly destination: string; readonly by: 'proxy' | 'probe' }
  /** It left uncaptured, or something else took it. */
  | { readonly kind: 'missed'; readonly destination: string; readonly reason: string }
  /** No connection of this family can leave this namespace: there is nothing to capture. */
  | { readonly kind: 'no-route' }
  /** The options exclude every address or port that could be tried, or the listener cannot be opened. */
  | { readonly kind: 'impossible'; readonly reason: string };

/** Documentation networks (RFC 5737, RFC 3849, RFC 9637): nobody answers there, so whatever answers captured it. */
const NOWHERE: Readonly<Record<Family, readonly string[]>> = {
  4: ['192.0.2.1', '198.51.100.1', '203.0.113.1'],
  6: ['2001:db8::1', '3fff::1'],
};

/** A captured connection never leaves the machine: it is there in a millisecond, two seconds on a drowning one. */
const DIAL_TIMEOUT_MS = 2000;

/** A proxy that resets at once may be gone before we look; three such accidents in a row are none. */
const DIAL_ATTEMPTS = 3;

/**
 * Dials an address where nobody is and looks for the connection in the kernel's socket table at the outbound port. When
 * no proxy listens on that port yet, it listens there itself for the moment.
 */
export async function probeOutbound(options: CaptureOptions, family: Family): Promise<ProbeResult> {
  const port = capturedPort(options);
  const addresses = destinations(family).filter(
    (address) => !options.subnetsToIgnore.some((subnet) => subnet.contains(address)),
  );
  if (port === undefined || addresses.length === 0) {
    return { kind: 'impossible', reason: 'the ignored ports or subnets leave nothing to capture' };
  }
  const routed: SocketAddress[] = [];
  for (const address of addresses) if (await hasRoute(address)) routed.push(address);
  if (routed.length === 0) return { kind: 'no-route' };
  const listening = await listen(options.outboundPort, family);
  if (typeof listening === 'string') return { kind: 'impossible', reason: listening };
  try {
    return await dial(routed[0].withPort(port), options.outboundPort, listening.server === undefined);
  } finally {
    listening.server?.close();
  }
}

/**
 * Whether the kernel has a route to the address. A TCP connection could not tell: its packet may leave and meet a
 * router that knows no further. Connecting a UDP socket sends nothing.
 */
function hasRoute(address: SocketAddress): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket(address.family === 4 ? 'udp4' : 'udp6');
    socket.once('connect', () => {
      socket.close();
      resolve(true);
    });
    socket.once('error', () => {
      socket.close();
      resolve(false);
    });
    // Any port does: no packet is sent.
    socket.connect(9, address.ip);
  });
}

/** Addresses to try: nowhere at all, and where that has no route, neighbours on the links of this namespace. */
function destinations(family: Family): SocketAddress[] {
  const found = NOWHERE[family].map((text) => parseIp(text)!);
  for (const { internal, cidr } of Object.values(networkInterfaces()).flatMap((all) => all ?? [])) {
    const own = cidr === null ? undefined : parseIp(cidr.slice(0, cidr.indexOf('/')));
    if (internal || cidr === null || own?.family !== family || cidr.startsWith('fe80:')) continue;
    const neighbour = neighbourOf(own, Cidr.parse(cidr)!);
    if (neighbour !== undefined) found.push(neighbour);
  }
  return found;
}

/** Another host address of the same link: neither our own nor the first or last of the network, which are special. */
function neighbourOf(own: SocketAddress, subnet: Cidr): SocketAddress | undefined {
  const hostBits = Math.min(32, (own.family === 4 ? 32 : 128) - subnet.bits);
  const hostMask = hostBits === 0 ? 0 : 0xffffffff >>> (32 - hostBits);
  for (const flip of [1, 2, 4]) {
    const word = (own.w3 ^ flip) >>> 0;
    const host = (word & hostMask) >>> 0;
    const candidate = new SocketAddress(own.family, own.w0, own.w1, own.w2, word, 0);
    if (subnet.contains(candidate) && host !== 0 && host !== hostMask) return candidate;
  }
  return undefined;
}

/** A destination port that the options do not exempt, 80 if they allow it. */
function capturedPort({ outboundPortsToIgnore }: CaptureOptions): number | undefined {
  for (let offset = 0; offset < 65535; offset++) {
    const port = ((79 + offset) % 65535) + 1;
    if (!includesPort(outboundPortsToIgnore, port)) return port;
  }
  return undefined;
}

/** @returns no server when a proxy has the port; a sentence when the port cannot be had at all */
function listen(port: number, family: Family): Promise<{ server: Server | undefined } | string> {
  return new Promise((resolve) => {
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy());
      socket.resume();
    });
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve({ server: undefined });
      else if (error.code === 'EADDRNOTAVAIL') resolve('loopback has no address here: `ip link set lo up`');
      else resolve(`cannot listen on port ${port} to see whether connections arrive: ${error.message}`);
    });
    // REDIRECT of what this host sends lands on the loopback address of the family.
    server.listen(port, family === 4 ? '127.0.0.1' : '::1', () => resolve({ server }));
  });
}

async function dial(
  destination: SocketAddress,
  outboundPort: number,
  proxyListens: boolean,
): Promise<ProbeResult> {
  const text = destination.toString();
  for (let attempt = 0; attempt < DIAL_ATTEMPTS; attempt++) {
    const outcome = await dialOnce(destination, outboundPort);
    if (outcome === 'at-outbound-port') {
      return { kind: 'captured', destination: text, by: proxyListens ? 'proxy' : 'probe' };
    }
    if (outcome !== 'elsewhere') return { kind: 'missed', destination: text, reason: outcome };
  }
  return {
    kind: 'missed',
    destination: text,
    reason: `something accepted it, but not port ${outboundPort} of this host`,
  };
}

/** @returns `at-outbound-port`, `elsewhere`, or why it was not accepted at all */
function dialOnce(destination: SocketAddress, outboundPort: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: destination.ip, port: destination.port });
    const finish = (outcome: string) => {
      clearTimeout(deadline);
      socket.destroy();
      resolve(outcome);
    };
    const deadline = setTimeout(
      () => finish(`nobody accepted it within ${DIAL_TIMEOUT_MS} ms: it left this host`),
      DIAL_TIMEOUT_MS,
    );
    socket.once('connect', () => {
      finish(hasSocketPair(outboundPort, socket.localPort ?? 0) ? 'at-outbound-port' : 'elsewhere');
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      finish(`it failed with ${error.code ?? error.message}: it was refused where it went`);
    });
  });
}

/** True when the kernel has a socket whose own port is `local` and whose peer's port is `remote` (proc(5), net/tcp). */
function hasSocketPair(local: number, remote: number): boolean {
  const hex = (port: number) => port.toString(16).toUpperCase().padStart(4, '0');
  const pair = new RegExp(`^ *\\d+: [0-9A-F]+:${hex(local)} [0-9A-F]+:${hex(remote)} `, 'm');
  return ['/proc/self/net/tcp', '/proc/self/net/tcp6'].some((path) => pair.test(readTable(path)));
}

function readTable(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    // Without IPv6 in the kernel there is no tcp6.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}
