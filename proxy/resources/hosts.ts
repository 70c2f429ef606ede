/** Names for machines without cluster DNS. */
import { CLUSTER_DOMAIN } from './compile.ts';
import type { Resource } from './types.ts';

/**
 * Lines for /etc/hosts that give each service with a virtual IP its names, sorted by name: `10.96.0.10
 * web.default.svc.cluster.local web.default web`. The bare name is given to services of `namespace` only,
 * which are the ones a Kubernetes resolver would find by it.
 */
export function hostsLines(resources: readonly Resource[], namespace = 'default'): string[] {
  const lines = new Set<string>();
  for (const service of resources) {
    if (service.kind !== 'Service') continue;
    const name = `${service.name}.${service.namespace}`;
    const bare = service.namespace === namespace ? ` ${service.name}` : '';
    for (const { ip } of service.clusterIps) lines.add(`${ip} ${name}.svc.${CLUSTER_DOMAIN} ${name}${bare}`);
  }
  return [...lines].sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : nameOf(a) > nameOf(b) ? 1 : 0));
}

function nameOf(line: string): string {
  return line.slice(line.indexOf(' '));
}
