/** Metrics of the main thread's own work: what it runs, what it knows, and who it is. */
import type { MetricsRegistry } from '../metrics/registry.ts';
import type { Discovery } from './discovery.ts';
import type { IdentityFiles } from './identity-files.ts';

/** Adds them to the registry; `identity` is undefined for a proxy without one. */
export function addControlMetrics(
  registry: MetricsRegistry,
  version: string,
  discovery: Discovery,
  identity: IdentityFiles | undefined,
): void {
  if (identity !== undefined) addIdentityMetrics(registry, identity);
  registry.gauge(
    'proxy_build_info',
    'Version of the proxy and its runtime',
    ['version', 'node', 'openssl'],
    () => [
      {
        labels: { version, node: process.versions.node, openssl: process.versions.openssl ?? '' },
        value: 1,
      },
    ],
  );
  registry.gauge('ferrule_discovery_synced', 'Whether a source has a complete answer', ['source'], () =>
    discovery
      .health()
      .map(({ name, health }) => ({ labels: { source: name }, value: health.synced ? 1 : 0 })),
  );
  registry.gauge('ferrule_discovery_failing', 'Whether a source has an error now', ['source'], () =>
    discovery
      .health()
      .map(({ name, health }) => ({ labels: { source: name }, value: health.error === undefined ? 0 : 1 })),
  );
  registry.gauge('ferrule_discovery_age_seconds', 'Age of the last good answer of a source', ['source'], () =>
    discovery
      .health()
      .flatMap(({ name, health }) =>
        health.lastGoodMs === undefined
          ? []
          : [{ labels: { source: name }, value: Math.max(0, Date.now() - health.lastGoodMs) / 1000 }],
      ),
  );
}

/** Linkerd's names where it has the family. */
function addIdentityMetrics(registry: MetricsRegistry, identity: IdentityFiles): void {
  const one = (value: number | undefined) =>
    value === undefined ? [] : [{ labels: { identity: identity.current?.identity ?? '' }, value }];
  const seconds = (ms: number | undefined) => one(ms === undefined ? undefined : ms / 1000);
  const labels = ['identity'];
  registry.gauge(
    'control_identity_cert_expiration_timestamp_seconds',
    'When our certificate ends, in seconds since 1970',
    labels,
    () => seconds(identity.current?.notAfterMs),
  );
  registry.gauge(
    'ferrule_identity_trust_anchor_expiration_timestamp_seconds',
    'When the last of our trust anchors ends, in seconds since 1970',
    labels,
    () => seconds(identity.current?.trustAnchorNotAfterMs),
  );
  registry.gauge(
    'control_identity_cert_refresh_timestamp_seconds',
    'When our certificate was last taken into use, in seconds since 1970',
    labels,
    () => seconds(identity.reloadedAtMs),
  );
  // Without the identity, which the failures before the first certificate would not have: a counter keeps its labels.
  registry.counter(
    'control_identity_cert_refreshes_total',
    'Changes of the identity files, by whether they were taken into use by us and the workers',
    ['result'],
    () => [
      { labels: { result: 'ok' }, value: identity.reloads },
      { labels: { result: 'error' }, value: identity.failures },
    ],
  );
}
