/** Headless Chromium through two sidecars with mutual TLS: a page of many parts, uploads, a WebSocket and events. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { BODY_BYTES, EVENTS, MESSAGES, PARTS, type PageResult } from '../support/browser-page.ts';
import { streamDigest } from '../support/http-application.ts';
import { createMesh, poll, SERVER } from '../support/mesh.ts';
import { expectAllSecured, startSidecars } from '../support/mesh-security.ts';
import { type Namespace, spawn } from '../support/netns.ts';
import { requirePeer } from '../support/peers.ts';
import { serveApplication } from '../support/servers.ts';

const VIRTUAL = '10.96.0.10';
const PORT = 8080;

/** No window, no profile that lasts, and nobody asked but the page's server. */
const FLAGS = [
  '--headless=new',
  // Root has no other choice, and the page is ours.
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--no-first-run',
  '--disable-sync',
  '--disable-extensions',
  '--disable-component-update',
  '--disable-background-networking',
  '--no-proxy-server',
  `--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE ${VIRTUAL}`,
  // Keeps it open when the page has loaded.
  '--remote-debugging-port=0',
];

/** Opens a page. @returns what closes the browser and waits for its end */
function openBrowser(namespace: Namespace, chromium: string, url: string) {
  const home = mkdtempSync(join(tmpdir(), `ferrule-browser-${process.pid}-`));
  let said = '';
  const child = spawn(namespace, chromium, [...FLAGS, `--user-data-dir=${home}/profile`, url], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env.PATH, HOME: home },
  });
  child.stderr?.on('data', (text) => {
    said += text;
  });
  const ended = once(child, 'exit');
  const close = async () => {
    child.kill('SIGTERM');
    await ended;
    // What it started ends a little later and still writes.
    rmSync(home, { recursive: true, force: true, maxRetries: 10 });
  };
  return { close, running: () => child.exitCode === null, said: () => said };
}

t.test('Chromium', async (t) => {
  const chromium = requirePeer(t, 'chromium');
  if (chromium === undefined) return;
  const mesh = createMesh(t, 'nft');
  if (mesh === undefined) return;
  const services = [{ name: 'page', ip: VIRTUAL, port: PORT, endpoint: SERVER.v4 }];
  const sidecars = await startSidecars(t, mesh, 'mtls', services);
  let told = '';
  const server = await serveApplication(mesh.server, SERVER.v4, PORT);
  server.stdout?.on('data', (text) => {
    told += text;
  });
  const browser = openBrowser(mesh.client, chromium, `http://${VIRTUAL}:${PORT}/page`);
  try {
    await poll(
      'the page has a result',
      () => {
        if (!browser.running()) throw new Error(`Chromium ended: ${browser.said()}`);
        return told.endsWith('\n');
      },
      browser.said,
    );
  } finally {
    await browser.close();
  }
  const { reads, ...rest }: PageResult = JSON.parse(told);
  t.strictSame(rest, {
    styles: PARTS,
    scripts: PARTS,
    images: PARTS,
    upload: { length: BODY_BYTES, digest: streamDigest(BODY_BYTES) },
    messages: MESSAGES,
    events: EVENTS,
  });
  t.ok(reads > 10, `${BODY_BYTES} bytes came in ${reads} reads`);
  // The page, its script, the body both ways, the WebSocket, events, asking for the next, and the result.
  const least = 3 * PARTS + 6 + EVENTS;
  for (const sidecar of [sidecars.outgoing, sidecars.incoming]) {
    const requests = sidecar.sum('request_total');
    t.ok(requests >= least, `${requests} requests of at least ${least}`);
  }
  expectAllSecured(t, sidecars);
});
