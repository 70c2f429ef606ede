/**
 * Ferrule in explicit mode: one worker, file discovery of one service; with mutual TLS between two of them. Where rivals are in mode
 * tcp, the ports are opaque, so that nobody looks for requests; for HTTP everything is left as it is by default.
 */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ask, projectRoot, proxyUser } from '../harness/machine.ts';
import type { Identity, Launch, PairLaunch, Peer, Probe, Route } from '../harness/model.ts';

/** Any port: nothing listens on it, it names the backend. */
const SERVICE_PORT = 80;

function executable(): string {
  return join(projectRoot(), 'dist/proxy/cli/ferrule.js');
}

/** Whether it is built, and can be read by the user it runs as. */
export function probeFerrule(): Probe {
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
}

export const peer: Peer = {
  name: 'ferrule',
  description: 'Ferrule, explicit listener, one worker',
  role: 'subject',
  probe: probeFerrule,
  one: (route) => launchOne(route, { isOpaque: true }),
  pair: pairOf({ isOpaque: true }),
  http: (route) => launchOne(route, {}),
  // HTTP/1 all the way, as rivals are set.
  httpPair: pairOf({ multiplex: false }),
  balance: (route) => launchOne(route, {}),
  h2: (route) => launchOne(route, {}),
  h2Pair: pairOf({}),
  httpOverH2: pairOf({}),
};

/** How its ports take what comes, where that is not what they do by default. */
interface Ports {
  readonly isOpaque?: boolean;
  readonly multiplex?: boolean;
}

/** Starts one between clients and the mesh. */
export function launchOne(
  route: Route,
  { isOpaque = false, annotations }: { readonly isOpaque?: boolean; readonly annotations?: string },
): Launch {
  const ofService = annotations === undefined ? '' : `, annotations: { ${annotations} }`;
  return launch(route, outbound(route, { isOpaque }), {
    'mesh.d/backend.yaml': resources(route, ofService, ''),
  });
}

function pairOf(ports: Ports): PairLaunch {
  return {
    // What a node of ours and one of ours agree on, with nothing configured.
    group: 'X25519MLKEM768',
    client: (route, own, server) => {
      const ofSlice = `, annotations: { ferrule.dev/identity: "${server.spiffe}" }`;
      return launch(route, outbound(route, ports) + IDENTITY, {
        ...identityFiles(own),
        'mesh.d/backend.yaml': resources(route, '', ofSlice),
      });
    },
    server: (route, own) => launch(route, inbound(route, ports) + IDENTITY, identityFiles(own)),
  };
}

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
function outbound(route: Route, { isOpaque = false, multiplex = true }: Ports): string {
  return `
discovery: [ { source: file, path: ./mesh.d } ]
outbound:
  listen: []
  multiplex: ${multiplex}${isOpaque ? `\n  opaquePorts: [ ${SERVICE_PORT} ]` : ''}
  listeners: [ { listen: 127.0.0.1:${route.listenPort}, service: "backend.bench:${SERVICE_PORT}" } ]
inbound: { listen: [] }
`;
}

/** From the mesh to the application. */
function inbound(route: Route, { isOpaque = false }: Ports): string {
  const { listenPort, backendPort } = route;
  return `
outbound: { listen: [] }
inbound:
  listen: []${isOpaque ? `\n  opaquePorts: [ ${backendPort} ]` : ''}
  ports: [ { listen: 127.0.0.1:${listenPort}, port: ${backendPort}, policy: all-authenticated } ]
`;
}

/** @param ofService more metadata of the Service @param ofSlice more metadata of the EndpointSlices */
function resources(route: Route, ofService: string, ofSlice: string): string {
  return `
apiVersion: v1
kind: Service
metadata: { name: backend, namespace: bench${ofService} }
spec:
  clusterIP: 10.96.0.10
  ports: [ { name: main, port: ${SERVICE_PORT}, targetPort: ${route.backendPort} } ]
${route.backendPorts.map((port, index) => slice(port, `backend-${index}`, ofSlice)).join('')}`;
}

function slice(port: number, name: string, metadata: string): string {
  return `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}, namespace: bench, labels: { kubernetes.io/service-name: backend }${metadata} }
addressType: IPv4
ports: [ { name: main, port: ${port} } ]
endpoints: [ { addresses: [ 127.0.0.1 ] } ]
`;
}
