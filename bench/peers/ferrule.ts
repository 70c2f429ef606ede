/** Ferrule in explicit mode: one worker, file discovery of one service with one endpoint; with mutual TLS between two of them. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ask, projectRoot, proxyUser } from '../harness/machine.ts';
import type { Identity, Launch, Peer, Route } from '../harness/model.ts';

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
  one: (route) => launch(route, outbound(route), { 'mesh.d/backend.yaml': resources(route, '') }),
  pair: {
    // What a node of ours and one of ours agree on, with nothing configured.
    group: 'X25519MLKEM768',
    client: (route, own, server) =>
      launch(route, outbound(route) + IDENTITY, {
        ...identityFiles(own),
        'mesh.d/backend.yaml': resources(
          route,
          `, annotations: { ferrule.dev/identity: "${server.spiffe}" }`,
        ),
      }),
    server: (route, own) => launch(route, inbound(route) + IDENTITY, identityFiles(own)),
  },
};

const IDENTITY = 'identity: { source: files, certificate: own.crt, key: own.key, trustAnchors: trust.crt }\n';

function identityFiles(own: Identity): Launch['files'] {
  return { 'own.crt': own.certificate, 'own.key': own.key, 'trust.crt': own.trustAnchors };
}

function launch(route: Route, sides: string, files: Launch['files']): Launch {
  const configuration = `
workload: { namespace: bench }
${sides}
admin: { listen: 127.0.0.1:${route.adminPort}, tokenFile: ./admin-token }
workers: 1
shutdown: { grace: 0s, drainDelay: 0s }
log: { level: warn }
`;
  return {
    command: process.execPath,
    args: [executable(), 'proxy', '--config', 'ferrule.yaml'],
    files: { ...files, 'ferrule.yaml': configuration },
  };
}

/** From the application to the mesh. */
function outbound(route: Route): string {
  return `
discovery: [ { source: file, path: ./mesh.d } ]
outbound:
  listen: []
  listeners: [ { listen: 127.0.0.1:${route.listenPort}, service: "backend.bench:${SERVICE_PORT}" } ]
inbound: { listen: [] }
`;
}

/** From the mesh to the application. */
function inbound(route: Route): string {
  const { listenPort, backendPort } = route;
  return `
outbound: { listen: [] }
inbound:
  listen: []
  ports: [ { listen: 127.0.0.1:${listenPort}, port: ${backendPort}, policy: all-authenticated } ]
`;
}

/** @param metadata more about the EndpointSlice */
function resources(route: Route, metadata: string): string {
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
metadata: { name: backend-1, namespace: bench, labels: { kubernetes.io/service-name: backend }${metadata} }
addressType: IPv4
ports: [ { name: tcp, port: ${route.backendPort} } ]
endpoints: [ { addresses: [ 127.0.0.1 ] } ]
`;
}
