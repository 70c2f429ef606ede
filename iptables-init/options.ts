/** From the words of the command line to checked options; every mistake is collected, none stops the reading. */

import { Cidr, parsePort, SocketAddress } from '../proxy/core/address.ts';
import { nearest } from '../proxy/core/nearest.ts';
import { IPTABLES_MODES } from './backend.ts';
import { type PortRange, parsePortRange } from './ports.ts';
import type { CaptureOptions } from './rules.ts';
import { IPV6_MODES, type RunOptions } from './runner.ts';

/** Flags as given or defaulted. Lists hold what was given, each value possibly a comma list. */
export interface RawOptions {
  text(name: SingleFlag): string | undefined;
  list(name: ListFlag): readonly string[];
}

type SingleFlag =
  | 'inbound-port'
  | 'outbound-port'
  | 'admin-port'
  | 'proxy-uid'
  | 'proxy-gid'
  | 'ipv6'
  | 'iptables-mode'
  | 'wait';
type ListFlag =
  | 'ports-to-redirect'
  | 'inbound-ports-to-ignore'
  | 'outbound-ports-to-ignore'
  | 'subnets-to-ignore';

/** The largest uid and gid: (uid_t) -1 means "nobody in particular" to the kernel. */
const LARGEST_ID = 2 ** 32 - 2;

/** Below the two minutes after which a program that does not end is given up. */
const LONGEST_WAIT_SECONDS = 100;

/** What is captured. Mistakes are added to `mistakes`; the result is then of no use. */
export function readCaptureOptions(raw: RawOptions, mistakes: string[]): CaptureOptions {
  const ports = {
    inboundPort: readPort(raw, 'inbound-port', mistakes),
    outboundPort: readPort(raw, 'outbound-port', mistakes),
    adminPort: readPort(raw, 'admin-port', mistakes),
  };
  const used = Object.values(ports).filter((port) => port !== 0);
  if (new Set(used).size < used.length) {
    mistakes.push('--inbound-port, --outbound-port and --admin-port must be three different ports');
  }
  return {
    ...ports,
    portsToRedirect: readPortList(raw, 'ports-to-redirect', mistakes),
    inboundPortsToIgnore: readPortList(raw, 'inbound-ports-to-ignore', mistakes),
    outboundPortsToIgnore: readPortList(raw, 'outbound-ports-to-ignore', mistakes),
    subnetsToIgnore: readSubnets(raw, mistakes),
    proxyUid: readNumber(raw, 'proxy-uid', 1, LARGEST_ID, mistakes) ?? 0,
    proxyGid: readNumber(raw, 'proxy-gid', 1, LARGEST_ID, mistakes),
  };
}

/** How it is installed. Mistakes are added to `mistakes`; the result is then of no use. */
export function readRunOptions(raw: RawOptions, mistakes: string[]): RunOptions {
  return {
    mode: readChoice(raw, 'iptables-mode', IPTABLES_MODES, mistakes),
    ipv6: readChoice(raw, 'ipv6', IPV6_MODES, mistakes),
    waitSeconds: readNumber(raw, 'wait', 1, LONGEST_WAIT_SECONDS, mistakes) ?? 0,
  };
}

function readPort(raw: RawOptions, flag: SingleFlag, mistakes: string[]): number {
  const text = raw.text(flag) ?? '';
  const port = parsePort(text) ?? 0;
  if (port === 0) mistakes.push(`--${flag}: ${JSON.stringify(text)} is not a port of 1 to 65535`);
  return port;
}

function readPortList(raw: RawOptions, flag: ListFlag, mistakes: string[]): PortRange[] {
  const ranges: PortRange[] = [];
  for (const item of commaList(raw.list(flag))) {
    const range = parsePortRange(item);
    if (range !== undefined) ranges.push(range);
    else
      mistakes.push(
        `--${flag}: ${JSON.stringify(item)} is not a port of 1 to 65535 or a range such as 8000-8100`,
      );
  }
  return ranges;
}

function readSubnets(raw: RawOptions, mistakes: string[]): Cidr[] {
  const subnets: Cidr[] = [];
  for (const item of commaList(raw.list('subnets-to-ignore'))) {
    const subnet = Cidr.parse(item);
    if (subnet !== undefined) subnets.push(withoutHostBits(subnet));
    else {
      mistakes.push(
        `--subnets-to-ignore: ${JSON.stringify(item)} is not an address or network such as 10.0.0.0/8 or fd00::/8`,
      );
    }
  }
  return subnets;
}

/** iptables prints networks that way, and what is installed is compared with what should be. */
function withoutHostBits({ network, bits }: Cidr): Cidr {
  const keep = (word: number, from: number) => {
    const kept = Math.min(32, Math.max(0, bits - from));
    return kept === 0 ? 0 : (word & (0xffffffff << (32 - kept))) >>> 0;
  };
  const { w0, w1, w2, w3 } = network;
  const first =
    network.family === 4
      ? new SocketAddress(4, 0, 0, 0, keep(w3, 0), 0)
      : new SocketAddress(6, keep(w0, 0), keep(w1, 32), keep(w2, 64), keep(w3, 96), 0);
  return Cidr.parse(`${first.ip}/${bits}`)!;
}

/** @returns undefined when the flag is absent or wrong */
function readNumber(
  raw: RawOptions,
  flag: SingleFlag,
  least: number,
  most: number,
  mistakes: string[],
): number | undefined {
  const text = raw.text(flag);
  if (text === undefined) return undefined;
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  const root =
    value === 0 && flag.startsWith('proxy-') ? '; 0 is root, whose traffic must not escape capture' : '';
  mistakes.push(`--${flag}: ${JSON.stringify(text)} is not a number of ${least} to ${most}${root}`);
  return undefined;
}

function readChoice<Choice extends string>(
  raw: RawOptions,
  flag: SingleFlag,
  choices: readonly Choice[],
  mistakes: string[],
): Choice {
  const text = raw.text(flag) ?? '';
  const choice = choices.find((one) => one === text);
  if (choice !== undefined) return choice;
  const guess = nearest(text, choices);
  const hint = guess === undefined ? '' : `; did you mean ${guess}?`;
  mistakes.push(`--${flag}: ${JSON.stringify(text)} is none of ${choices.join(', ')}${hint}`);
  return choices[0];
}

/** Empty items are dropped: templates leave trailing commas behind. */
function commaList(values: readonly string[]): string[] {
  return values
    .flatMap((value) => value.split(','))
    .map((item) => item.trim())
    .filter((item) => item !== '');
}
