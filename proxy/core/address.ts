/**
 * IP addresses and socket addresses as the hot path uses them: four 32-bit words and a port, no string until
 * somebody prints one. IPv4-mapped IPv6 addresses are IPv4 everywhere.
 */

/** One IP address and port. Immutable; compare with `sameSocketAddress` or by `key`. */
export class SocketAddress {
  /** 4 or 6. */
  readonly family: 4 | 6;
  /** Network-order words as unsigned 32-bit numbers. IPv4 uses `w3` only, the others are 0. */
  readonly w0: number;
  readonly w1: number;
  readonly w2: number;
  readonly w3: number;
  /** 0 to 65535. */
  readonly port: number;

  constructor(family: 4 | 6, w0: number, w1: number, w2: number, w3: number, port: number) {
    this.family = family;
    this.w0 = w0;
    this.w1 = w1;
    this.w2 = w2;
    this.w3 = w3;
    this.port = port;
  }

  /** A map key: a number for IPv4 (below 2^48, so exact), a string for IPv6. */
  get key(): AddressKey {
    return this.family === 4
      ? this.w3 * 65536 + this.port
      : `${this.w0},${this.w1},${this.w2},${this.w3},${this.port}`;
  }

  /** The same address with another port. */
  withPort(port: number): SocketAddress {
    return new SocketAddress(this.family, this.w0, this.w1, this.w2, this.w3, port);
  }

  /** The IP without the port, in canonical text (RFC 5952 for IPv6). */
  get ip(): string {
    return this.family === 4 ? formatIpv4(this.w3) : formatIpv6(this);
  }

  /** `1.2.3.4:80` or `[::1]:80`. */
  toString(): string {
    return this.family === 4 ? `${this.ip}:${this.port}` : `[${this.ip}]:${this.port}`;
  }
}

/** Identifies an address and port in a Map. */
export type AddressKey = number | string;

declare const role: unique symbol;
/** Where the client wanted to go before iptables redirected it. Branded so that it is never mistaken for a peer. */
export type OriginalDestination = SocketAddress & { readonly [role]: 'original destination' };
/** Who connected to us. */
export type PeerAddress = SocketAddress & { readonly [role]: 'peer' };
/** The address of our own end of an accepted connection. */
export type LocalAddress = SocketAddress & { readonly [role]: 'local' };

/** True for 127.0.0.0/8 and ::1. */
export function isLoopback(address: SocketAddress): boolean {
  return address.family === 4
    ? address.w3 >>> 24 === 127
    : address.w0 === 0 && address.w1 === 0 && address.w2 === 0 && address.w3 === 1;
}

/** True for 0.0.0.0 and ::. */
export function isUnspecified(address: SocketAddress): boolean {
  return (address.w0 | address.w1 | address.w2 | address.w3) === 0;
}

/** True when IP and port are equal. */
export function sameSocketAddress(a: SocketAddress, b: SocketAddress): boolean {
  return a.port === b.port && sameIp(a, b);
}

/** True when the IPs are equal, whatever the ports. */
export function sameIp(a: SocketAddress, b: SocketAddress): boolean {
  return a.family === b.family && a.w3 === b.w3 && a.w2 === b.w2 && a.w1 === b.w1 && a.w0 === b.w0;
}

/**
 * Parses `1.2.3.4:80` or `[::1]:80`.
 * @returns undefined when the text is not an IP literal with a port of 0 to 65535.
 */
export function parseSocketAddress(text: string): SocketAddress | undefined {
  const colon = text.lastIndexOf(':');
  if (colon < 0) return undefined;
  const host = text.slice(0, colon);
  const port = parsePort(text.slice(colon + 1));
  if (port === undefined) return undefined;
  if (host.startsWith('[') !== host.endsWith(']')) return undefined;
  const bracketed = host.startsWith('[');
  const address = parseIp(bracketed ? host.slice(1, -1) : host, port);
  // Brackets belong to IPv6 (RFC 3986 section 3.2.2), and IPv6 needs them.
  return bracketed === host.includes(':') ? address : undefined;
}

/** Parses an IP literal (no brackets, no zone) and gives it `port`; undefined when it is not one. */
export function parseIp(text: string, port = 0): SocketAddress | undefined {
  if (text.includes(':')) return parseIpv6(text, port);
  const word = parseIpv4Word(text);
  return word === undefined ? undefined : new SocketAddress(4, 0, 0, 0, word, port);
}

/** Parses a decimal port, 0 to 65535, without sign, spaces or leading zeros; undefined otherwise. */
export function parsePort(text: string): number | undefined {
  if (!/^(0|[1-9]\d{0,4})$/.test(text)) return undefined;
  const port = Number(text);
  return port <= 65535 ? port : undefined;
}

/** An IPv4 or IPv6 network in prefix notation. */
export class Cidr {
  readonly network: SocketAddress;
  /** Prefix length in bits: 0 to 32 or 0 to 128. */
  readonly bits: number;

  private constructor(network: SocketAddress, bits: number) {
    this.network = network;
    this.bits = bits;
  }

  /**
   * Parses `10.0.0.0/8`, `fd00::/8` or a bare address (all bits); undefined when it is none of them. A network of
   * IPv4-mapped addresses (`::ffff:10.0.0.0/104`) is the IPv4 network it means.
   */
  static parse(text: string): Cidr | undefined {
    const slash = text.indexOf('/');
    const network = parseIp(slash < 0 ? text : text.slice(0, slash));
    if (network === undefined) return undefined;
    const widest = network.family === 4 ? 32 : 128;
    if (slash < 0) return new Cidr(network, widest);
    const suffix = text.slice(slash + 1);
    if (!/^(0|[1-9]\d{0,2})$/.test(suffix)) return undefined;
    const mapped = network.family === 4 && text.includes(':');
    const bits = Number(suffix) - (mapped ? 96 : 0);
    return bits >= 0 && bits <= widest ? new Cidr(network, bits) : undefined;
  }

  /** True when `address` lies in this network. */
  contains(address: SocketAddress): boolean {
    const n = this.network;
    if (address.family !== n.family) return false;
    if (n.family === 4) return sameBits(address.w3, n.w3, this.bits);
    return (
      sameBits(address.w0, n.w0, this.bits) &&
      sameBits(address.w1, n.w1, this.bits - 32) &&
      sameBits(address.w2, n.w2, this.bits - 64) &&
      sameBits(address.w3, n.w3, this.bits - 96)
    );
  }

  toString(): string {
    return `${this.network.ip}/${this.bits}`;
  }
}

/** Compares the first `bits` bits of two words; nothing to compare when `bits` is 0 or less. */
function sameBits(a: number, b: number, bits: number): boolean {
  if (bits <= 0) return true;
  if (bits >= 32) return a === b;
  return (a ^ b) >>> (32 - bits) === 0;
}

function formatIpv4(word: number): string {
  return `${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}`;
}

function parseIpv4Word(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let word = 0;
  for (const part of parts) {
    // No leading zeros: half the world reads 010 as octal.
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    word = word * 256 + Number(part);
  }
  return word;
}

/** RFC 5952: lower case, the longest run of two or more zero groups (the first of equals) becomes `::`. */
function formatIpv6(address: SocketAddress): string {
  const groups: number[] = [];
  for (const word of [address.w0, address.w1, address.w2, address.w3])
    groups.push(word >>> 16, word & 0xffff);
  let bestStart = -1;
  let bestLength = 1;
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > bestLength) {
      bestStart = start;
      bestLength = length;
    }
  }
  const hex = groups.map((group) => group.toString(16));
  if (bestStart < 0) return hex.join(':');
  return `${hex.slice(0, bestStart).join(':')}::${hex.slice(bestStart + bestLength).join(':')}`;
}

function parseIpv6(text: string, port: number): SocketAddress | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0], halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1], true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  // `::` stands for at least one group (RFC 4291 section 2.2).
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const groups = [...head, ...new Array<number>(missing).fill(0), ...tail];
  const words = [0, 2, 4, 6].map((i) => groups[i] * 65536 + groups[i + 1]);
  const mapped = words[0] === 0 && words[1] === 0 && words[2] === 0xffff;
  if (mapped) return new SocketAddress(4, 0, 0, 0, words[3], port);
  return new SocketAddress(6, words[0], words[1], words[2], words[3], port);
}

/** Parses colon-separated groups; a dotted IPv4 tail counts as two groups where `last` allows it. */
function parseGroups(text: string, last: boolean): number[] | undefined {
  if (text === '') return [];
  const groups: number[] = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    if (last && index === parts.length - 1 && part.includes('.')) {
      const word = parseIpv4Word(part);
      if (word === undefined) return undefined;
      groups.push(word >>> 16, word & 0xffff);
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      groups.push(Number.parseInt(part, 16));
    } else {
      return undefined;
    }
  }
  return groups;
}
