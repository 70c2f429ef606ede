/** Checks that need several settings at once. They see every valid value, even when others were wrong. */
import { isUnspecified, parseIp, type SocketAddress, sameIp } from '../core/address.ts';
import type { SETTINGS, Values } from './settings.ts';
import type { Findings } from './shapes.ts';

type All = Values<typeof SETTINGS>;

/** An address to be bound and the setting it comes from. */
interface Bound {
  readonly address: SocketAddress;
  readonly name: string;
}

/** Reports what contradicts itself in `values`. */
export function checkTogether(values: All, findings: Findings): void {
  const bound = boundAddresses(values);
  checkDuplicates(bound, findings);
  checkOwnPorts(values, bound, findings);
  checkClusterNetworks(values, findings);
  checkSources(values, findings);
  checkShutdown(values, findings);
  checkIdentity(values, findings);
}

function boundAddresses({ outbound, inbound, admin }: All): readonly Bound[] {
  const bound = (name: string) => (address: SocketAddress) => ({ address, name });
  return [
    ...outbound.listen.map(bound('outbound.listen')),
    ...outbound.listeners.map(({ listen }) => bound('outbound.listeners')(listen)),
    ...inbound.listen.map(bound('inbound.listen')),
    ...inbound.ports.map(({ listen }) => bound('inbound.ports')(listen)),
    ...admin.listen.map(bound('admin.listen')),
  ];
}

function checkDuplicates(bound: readonly Bound[], findings: Findings): void {
  for (const [index, later] of bound.entries()) {
    const first = bound.slice(0, index).find(({ address }) => clash(address, later.address));
    if (first === undefined) continue;
    // Of two addresses at most one is a default; the written one is where the user can act.
    const origin = findings.origin(later.address);
    const place = origin ?? findings.origin(first.address);
    if (place === undefined) continue;
    const other = origin === undefined ? later : first;
    const otherPlace = findings.origin(other.address)?.place.source ?? 'its default';
    const written = origin === undefined ? first : later;
    findings.report(
      place.place,
      place.name,
      `${written.address} is taken by ${other.name} (${otherPlace}: ${other.address})`,
    );
  }
}

/** True when the kernel would not bind both. Listeners on `::` are IPv6 only, so the families do not meet. */
function clash(a: SocketAddress, b: SocketAddress): boolean {
  if (a.port !== b.port || a.port === 0 || a.family !== b.family) return false;
  return sameIp(a, b) || isUnspecified(a) || isUnspecified(b);
}

/** An explicit port is dialled at 127.0.0.1: one of our own there would be a loop. */
function checkOwnPorts({ inbound }: All, bound: readonly Bound[], findings: Findings): void {
  const loopback = parseIp('127.0.0.1') as SocketAddress;
  for (const entry of inbound.ports) {
    const own = bound.find(({ address }) => clash(address, loopback.withPort(entry.port)));
    const origin = findings.origin(entry);
    if (own === undefined || origin === undefined) continue;
    findings.report(
      origin.place,
      `${origin.name}.port`,
      `must be the application's port; ${entry.port} is the proxy's own (${own.name})`,
    );
  }
}

function checkClusterNetworks({ inbound }: All, findings: Findings): void {
  if (inbound.clusterNetworks.length > 0 || findings.isWrong('inbound.clusterNetworks')) return;
  const advice = 'needs inbound.clusterNetworks, the networks it means';
  if (inbound.defaultPolicy.startsWith('cluster-')) {
    const place = findings.settingPlace('inbound.defaultPolicy');
    if (place) findings.report(place, 'inbound.defaultPolicy', `${inbound.defaultPolicy} ${advice}`);
  }
  for (const entry of inbound.ports) {
    const origin = findings.origin(entry);
    if (!entry.policy?.startsWith('cluster-') || origin === undefined) continue;
    findings.report(origin.place, `${origin.name}.policy`, `${entry.policy} ${advice}`);
  }
}

function checkSources({ outbound, discovery }: All, findings: Findings): void {
  const place = findings.settingPlace('outbound.listeners');
  if (outbound.listeners.length === 0 || discovery.length > 0 || findings.isWrong('discovery')) return;
  if (place === undefined) return;
  findings.report(
    place,
    'outbound.listeners',
    'need a discovery source that knows their services: discovery: { source: file, path: ./mesh.d }',
  );
}

function checkShutdown({ shutdown }: All, findings: Findings): void {
  const place = findings.settingPlace('shutdown.drainDelay');
  // The default gives way to a shorter grace; only a written value can contradict it.
  if (place === undefined || findings.isWrong('shutdown.grace')) return;
  if (shutdown.drainDelay > shutdown.grace) {
    findings.report(
      place,
      'shutdown.drainDelay',
      'must not be longer than shutdown.grace, which includes it',
    );
  }
}

function checkIdentity({ identity }: All, findings: Findings): void {
  const place = findings.settingPlace('identity.source');
  for (const name of ['certificate', 'key', 'trustAnchors'] as const) {
    const setting = `identity.${name}`;
    const own = findings.settingPlace(setting);
    const missing = identity[name] === undefined && !findings.isWrong(setting);
    if (identity.source === 'files' && missing && place !== undefined) {
      findings.report(place, setting, 'is needed by identity.source: files');
    } else if (identity.source === 'none' && own !== undefined && !findings.isWrong('identity.source')) {
      findings.report(own, setting, 'needs identity.source: files');
    }
  }
}
