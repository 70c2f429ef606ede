/** What is this host's, and what is this proxy's: the basis of the rules against loops and open proxies. */
import { existsSync, readFileSync } from 'node:fs';
import { isLoopback, isUnspecified, parseIp, type SocketAddress, sameIp } from '../core/address.ts';

/**
 * How often the interfaces are read again at most, in ms. An address that is not known is looked for anew, since interfaces
 * come and go; a flood of foreign destinations must not turn that into a load.
 */
const REFRESH_MS = 1_000;

/** How old what was read may be, in ms: an address that moved to another host must not count as ours for long. */
const STALE_MS = 10_000;

/** Tells addresses of this network namespace from others. */
export class HostAddresses {
  private readonly own: readonly SocketAddress[];
  private readonly read: () => Iterable<string>;
  private local = new Set<string>();
  private readAtMs = Number.NEGATIVE_INFINITY;

  /**
   * @param own every address the proxy listens on
   * @param read the IP addresses of the interfaces, as text
   */
  constructor(own: readonly SocketAddress[], read: () => Iterable<string> = interfaceAddresses) {
    this.own = own;
    this.read = read;
  }

  /** True for loopback and the addresses of this host's interfaces. */
  isLocal(address: SocketAddress, nowMs: number = performance.now()): boolean {
    if (isLoopback(address)) return true;
    const ip = address.ip;
    const ageMs = nowMs - this.readAtMs;
    const known = this.local.has(ip);
    if (ageMs < (known ? STALE_MS : REFRESH_MS)) return known;
    this.readAtMs = nowMs;
    this.local = new Set(canonical(this.read()));
    return this.local.has(ip);
  }

  /** True when dialling `address` would reach a listener of this proxy. */
  isOwn(address: SocketAddress): boolean {
    return this.own.some(
      (listener) =>
        listener.port === address.port &&
        (sameIp(listener, address) ||
          isUnspecified(address) ||
          (isUnspecified(listener) && listener.family === address.family && this.isLocal(address))),
    );
  }
}

function* canonical(texts: Iterable<string>): Iterable<string> {
  for (const text of texts) {
    const address = parseIp(text);
    if (address !== undefined) yield address.ip;
  }
}

/**
 * The addresses of this network namespace as the kernel routes them to itself. Not os.networkInterfaces(): it leaves out
 * interfaces that are up but not yet running, so a pod that just started would refuse its own address for a second.
 */
function* interfaceAddresses(): Iterable<string> {
  let address = '';
  // Leaves of the routing trie: "|-- 10.0.0.5", followed by their prefixes: "/32 host LOCAL".
  for (const line of readFileSync('/proc/net/fib_trie', 'utf8').split('\n')) {
    const leaf = /\|-- ([\d.]+)/.exec(line);
    if (leaf !== null) address = leaf[1];
    else if (line.trim() === '/32 host LOCAL') yield address;
  }
  // Absent where the kernel has no IPv6. One line an address: 32 hexadecimal digits first.
  if (!existsSync('/proc/net/if_inet6')) return;
  for (const line of readFileSync('/proc/net/if_inet6', 'utf8').split('\n')) {
    const groups = line.slice(0, 32).match(/[0-9a-f]{4}/g);
    if (groups?.length === 8) yield groups.join(':');
  }
}
