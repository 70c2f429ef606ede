/**
 * What is captured, as pure data: options in, the ordered rules of the nat table out. Nothing here touches the machine.
 *
 *   PREROUTING ─► FERRULE_INIT_REDIRECT   admin port · skipped ports · skipped sources · REDIRECT to the inbound port
 *   OUTPUT     ─► FERRULE_INIT_OUTPUT     proxy uid · proxy gid · loopback · metadata · skipped ports ·
 *                                         skipped destinations · REDIRECT to the outbound port
 */

import { Cidr } from '../proxy/core/address.ts';
import { formatPorts, includesPort, joinOverlapping, type PortRange, splitForMultiport } from './ports.ts';

/** IP version. Each has rules and programs of its own. */
export type Family = 4 | 6;

/** Chain that PREROUTING jumps to. */
export const INBOUND_CHAIN = 'FERRULE_INIT_REDIRECT';
/** Chain that OUTPUT jumps to. */
export const OUTBOUND_CHAIN = 'FERRULE_INIT_OUTPUT';
/** Chains that are ours: created, flushed and removed by us and nobody else. */
export const OWN_CHAINS: readonly string[] = [INBOUND_CHAIN, OUTBOUND_CHAIN];

const SSH_PORT = 22;

/**
 * Credential and metadata endpoints of the clouds: they answer by the caller's source address, so a proxy in between
 * at best adds nothing and at worst hands the application the proxy's role. EC2, GCE, Azure; ECS tasks; EKS pods.
 */
const METADATA: readonly Cidr[] = [
  '169.254.169.254',
  '169.254.170.2',
  '169.254.170.23',
  'fd00:ec2::254',
  'fd00:ec2::23',
].map((text) => Cidr.parse(text)!);

/** What to capture and what to leave alone. All ports are 1 to 65535. */
export interface CaptureOptions {
  readonly inboundPort: number;
  readonly outboundPort: number;
  readonly adminPort: number;
  /** The only inbound ports that are redirected; all of them when empty. */
  readonly portsToRedirect: readonly PortRange[];
  readonly inboundPortsToIgnore: readonly PortRange[];
  readonly outboundPortsToIgnore: readonly PortRange[];
  /** Sources on the way in, destinations on the way out. */
  readonly subnetsToIgnore: readonly Cidr[];
  /** What the proxy sends is not captured again. Above 0. */
  readonly proxyUid: number;
  readonly proxyGid: number | undefined;
}

/** What a packet must look like; every given field must hold. Without fields: any TCP packet. */
export interface Match {
  /** Destination ports, at most MULTIPORT_SLOTS of them. */
  readonly ports?: readonly PortRange[];
  readonly source?: Cidr;
  readonly destination?: Cidr;
  readonly uid?: number;
  readonly gid?: number;
  readonly outInterface?: 'lo';
}

/** What happens to a packet that matches. */
export type Verdict =
  | { readonly kind: 'return' }
  | { readonly kind: 'redirect'; readonly port: number }
  | { readonly kind: 'jump'; readonly chain: string };

/** One rule of the nat table. */
export interface Rule {
  readonly chain: string;
  /** Unique in its table; carried as the comment `ferrule/<name>`. */
  readonly name: string;
  readonly match: Match;
  readonly verdict: Verdict;
}

/** Every rule of one family, in the order they are appended: our chains first, the jumps into them last. */
export function captureRules(options: CaptureOptions, family: Family): Rule[] {
  return [
    ...inboundRules(options, family),
    ...outboundRules(options, family),
    { chain: 'PREROUTING', name: 'inbound', match: {}, verdict: { kind: 'jump', chain: INBOUND_CHAIN } },
    { chain: 'OUTPUT', name: 'outbound', match: {}, verdict: { kind: 'jump', chain: OUTBOUND_CHAIN } },
  ];
}

/**
 * A rule in the words and the order iptables-save prints, so that what is installed can be compared with what should
 * be: `-A CHAIN … -j TARGET`.
 */
export function formatRule(rule: Rule): string {
  const { match, verdict } = rule;
  const words = ['-A', rule.chain];
  if (match.source !== undefined) words.push(...formatSubnet('-s', match.source));
  if (match.destination !== undefined) words.push(...formatSubnet('-d', match.destination));
  if (match.outInterface !== undefined) words.push('-o', match.outInterface);
  // The owner and interface rules hold for every protocol; our chains only ever see TCP.
  const anyProtocol = match.uid !== undefined || match.gid !== undefined || match.outInterface !== undefined;
  if (!anyProtocol) words.push('-p', 'tcp');
  if (match.ports !== undefined) words.push('-m', 'multiport', '--dports', formatPorts(match.ports));
  if (match.uid !== undefined) words.push('-m', 'owner', '--uid-owner', `${match.uid}`);
  if (match.gid !== undefined) words.push('-m', 'owner', '--gid-owner', `${match.gid}`);
  words.push('-m', 'comment', '--comment', `ferrule/${rule.name}`, '-j', formatVerdict(verdict));
  return words.join(' ');
}

function inboundRules(options: CaptureOptions, family: Family): Rule[] {
  const rule = (name: string, match: Match, verdict: Verdict): Rule => ({
    chain: INBOUND_CHAIN,
    name: `inbound-${name}`,
    match,
    verdict,
  });
  const redirect: Verdict = { kind: 'redirect', port: options.inboundPort };
  const listed = splitForMultiport(joinOverlapping(options.portsToRedirect));
  return [
    rule('admin-port', { ports: [onePort(options.adminPort)] }, RETURN),
    ...(needsSshGuard(options) ? [rule('ssh', { ports: [onePort(SSH_PORT)] }, RETURN)] : []),
    ...splitForMultiport(joinOverlapping(options.inboundPortsToIgnore)).map((ports, index) =>
      rule(`ignore-ports-${index + 1}`, { ports }, RETURN),
    ),
    ...subnetsOf(options.subnetsToIgnore, family).map((source, index) =>
      rule(`ignore-subnet-${index + 1}`, { source }, RETURN),
    ),
    ...(listed.length === 0
      ? [rule('redirect', {}, redirect)]
      : listed.map((ports, index) => rule(`redirect-${index + 1}`, { ports }, redirect))),
  ];
}

function outboundRules(options: CaptureOptions, family: Family): Rule[] {
  const rule = (name: string, match: Match, verdict: Verdict): Rule => ({
    chain: OUTBOUND_CHAIN,
    name: `outbound-${name}`,
    match,
    verdict,
  });
  return [
    rule('proxy-uid', { uid: options.proxyUid }, RETURN),
    ...(options.proxyGid === undefined ? [] : [rule('proxy-gid', { gid: options.proxyGid }, RETURN)]),
    rule('loopback', { outInterface: 'lo' }, RETURN),
    ...subnetsOf(METADATA, family).map((destination, index) =>
      rule(`metadata-${index + 1}`, { destination }, RETURN),
    ),
    ...splitForMultiport(joinOverlapping(options.outboundPortsToIgnore)).map((ports, index) =>
      rule(`ignore-ports-${index + 1}`, { ports }, RETURN),
    ),
    ...subnetsOf(options.subnetsToIgnore, family).map((destination, index) =>
      rule(`ignore-subnet-${index + 1}`, { destination }, RETURN),
    ),
    rule('redirect', {}, { kind: 'redirect', port: options.outboundPort }),
  ];
}

const RETURN: Verdict = { kind: 'return' };

/** On a VM a range such as 1-1024 must not take the administrator's own way in; naming 22 itself is consent. */
function needsSshGuard({ portsToRedirect }: CaptureOptions): boolean {
  const named = portsToRedirect.some(({ first, last }) => first === SSH_PORT && last === SSH_PORT);
  return !named && includesPort(portsToRedirect, SSH_PORT);
}

function onePort(port: number): PortRange {
  return { first: port, last: port };
}

function subnetsOf(subnets: readonly Cidr[], family: Family): Cidr[] {
  return subnets.filter((subnet) => subnet.network.family === family);
}

/** iptables-save leaves out a network of zero bits: it matches everything anyway. */
function formatSubnet(flag: '-s' | '-d', subnet: Cidr): string[] {
  return subnet.bits === 0 ? [] : [flag, subnet.toString()];
}

function formatVerdict(verdict: Verdict): string {
  if (verdict.kind === 'return') return 'RETURN';
  return verdict.kind === 'jump' ? verdict.chain : `REDIRECT --to-ports ${verdict.port}`;
}
