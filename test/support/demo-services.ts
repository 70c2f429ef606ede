/** What a summary of the demo must say of each service. */

import type { Test } from 'tap';
import type { ServiceSummary } from '../../proxy/demo/golden.ts';

/** Services whose requests the sidecar sees, by the protocol that has their statuses, with the status of success. */
const SEEN = { web: ['http', '200'], http2: ['http', '200'], grpc: ['grpc', '0'] } as const;

/** Asserts that all built-in services did well, and that the streams of one connection reached every endpoint. */
export function checkServices(
  t: Test,
  summary: { readonly requests: number; readonly services: Readonly<Record<string, ServiceSummary>> },
): void {
  const { services } = summary;
  for (const name of ['echo', ...Object.keys(SEEN)]) {
    const { requests, requestsPerSecond, success, p50Ms, p99Ms } = services[name];
    t.equal(success, 1, `${name}: nothing failed`);
    t.ok(requests > 20 && requestsPerSecond > 10, `${name}: ${requests} requests, ${requestsPerSecond}/s`);
    t.ok(p50Ms > 0 && p99Ms >= p50Ms, `${name}: ${p50Ms} and ${p99Ms} ms`);
  }
  for (const [name, [kind, status]] of Object.entries(SEEN)) {
    const { statuses, requests, endpoints } = services[name];
    t.strictSame(statuses, { [kind]: { [status]: requests } }, `${name}: all of one status`);
    t.equal(endpoints.length, 2);
    // On a busy machine one that was slow at first is hardly asked again within so few seconds.
    t.ok(Math.min(...endpoints) > 0, `${name}: every endpoint is asked: ${endpoints}`);
  }
  for (const name of ['http2', 'grpc']) {
    t.equal(services[name].connections, 1, `${name}: all of that on one connection of the client`);
  }
  // Each built-in service answers once before anything is counted.
  const sum = Object.values(services).reduce((total, { requests }) => total + requests, 0);
  t.equal(sum, summary.requests + Object.keys(SEEN).length, 'clients and sidecar count the same');
}
