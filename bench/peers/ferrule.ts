/** Ferrule in explicit mode: one worker, file discovery of one service with one endpoint. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ask, projectRoot, proxyUser } from '../harness/machine.ts';
import type { Peer, Route } from '../harness/model.ts';

/** Any port: nothing listens on it, it names the backend. */
const SERVICE_PORT = 80;

function executable(): string {
  return join(projectRoot(), 'dist/proxy/cli/ferrule.js');
}

export const peer: Peer = {
  name: 'ferrule',
  description: 'Ferrule, explicit listener, one worker',
  role: 'subject',
  probe() {
    if (!existsSync(join(projectRoot(), 'dist/proxy/main.js'))) {
      return { found: false, reason: 'ferrule is not built (npm run build)' };
    }
    const { status, text } = ask(process.execPath, [executable(), '--version'], proxyUser());
    if (status !== 0) {
      return {
        found: false,
        reason: `uid ${proxyUser() ?? 'of this user'} cannot run ${executable()} (its folders must be readable): ${text.trim()}`,
      };
    }
    return { found: true, versions: [text.trim()] };
  },
  launch: (route) => ({
    command: process.execPath,
    args: [executable(), 'proxy', '--config', 'ferrule.yaml'],
    files: { 'ferrule.yaml': configuration(route), 'mesh.d/backend.yaml': resources(route) },
  }),
};

function configuration(route: Route): string {
  return `
workload: { namespace: bench }
discovery: [ { source: file, path: ./mesh.d } ]
outbound:
  listen: []
  listeners: [ { listen: 127.0.0.1:${route.listenPort}, service: "backend.bench:${SERVICE_PORT}" } ]
inbound: { listen: [] }
admin: { listen: 127.0.0.1:${route.adminPort}, tokenFile: ./admin-token }
workers: 1
shutdown: { grace: 0s, drainDelay: 0s }
log: { level: warn }
`;
}

function resources(route: Route): string {
  return `
apiVersion: v1
kind: Service
metadata: { name: backend, namespace: bench }
spec:
  clusterIP: 10.96.0.10
  ports: [ { name: tcp, port: ${SERVICE_PORT}, targetPort: ${route.backendPort} } ]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: backend-1
  namespace: bench
  labels: { kubernetes.io/service-name: backend }
addressType: IPv4
ports: [ { name: tcp, port: ${route.backendPort} } ]
endpoints: [ { addresses: [ 127.0.0.1 ] } ]
`;
}
