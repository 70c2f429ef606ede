/** What a changed configuration changes. */
import { isDeepStrictEqual } from 'node:util';
import { type Config, describeConfig, type Json } from './config.ts';

/**
 * What is in force once a running proxy has read `newer`: its policies, log level and access log; everything else stays as it
 * is in force now. A listener keeps its place, and has the policy `newer` gives to the same `listen` and `port`; one that `newer`
 * no longer has goes on with its policy until the restart that closes it.
 */
export function takeOver(inForce: Config, newer: Config): Config {
  const { defaultPolicy, clusterNetworks } = newer.inbound;
  // Each once: several listeners of one port may take any free port (`listen` with port 0).
  const unmatched = [...newer.inbound.ports];
  const ports = inForce.inbound.ports.map((entry) => {
    const index = unmatched.findIndex(
      ({ listen, port }) => port === entry.port && String(listen) === String(entry.listen),
    );
    return index === -1 ? entry : unmatched.splice(index, 1)[0];
  });
  return {
    ...inForce,
    inbound: { ...inForce.inbound, defaultPolicy, clusterNetworks, ports },
    log: { ...inForce.log, level: newer.log.level, access: newer.log.access },
  };
}

/** Names of the settings that differ, dotted as in the file. */
export function changedSettings(before: Config, after: Config): string[] {
  return differing(describeConfig(before), describeConfig(after), '').filter((name) => name !== 'file');
}

function differing(one: Json, other: Json, path: string): string[] {
  if (isDeepStrictEqual(one, other)) return [];
  if (!isRecord(one) || !isRecord(other)) return [path];
  return Object.keys({ ...one, ...other }).flatMap((key) =>
    differing(one[key] ?? null, other[key] ?? null, path === '' ? key : `${path}.${key}`),
  );
}

function isRecord(value: Json): value is { readonly [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
