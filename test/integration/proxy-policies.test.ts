/** A policy that changes while connections are open: they are judged again, and cut where it no longer allows them. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import t from 'tap';
import { parse, stringify } from 'yaml';
import { serveEcho } from '../support/exchange.ts';
import { makeIdentities } from '../support/identities.ts';
import { launchProxy, listenerFor, serviceYaml, startTestProxy } from '../support/proxy.ts';

/** An address that is not loopback, which every policy lets in. */
const HOST = Object.values(networkInterfaces())
  .flat()
  .find((address) => address?.family === 'IPv4' && !address.internal)?.address;

t.test('SIGHUP: stricter policies cut those they refuse, and nobody else', async (t) => {
  if (HOST === undefined) {
    t.plan(0, 'this host has no IPv4 address besides loopback');
    return;
  }
  const echo = await serveEcho(t);
  const identities = await makeIdentities(t);
  const [web, api] = [await identities.make('web'), await identities.make('api')];
  const inbound = await startTestProxy(t, {
    identity: api.settings,
    inbound: { ports: [{ listen: '0.0.0.0:0', port: echo.address.port, policy: 'all-unauthenticated' }] },
  });
  const { port } = inbound.listeners[0];
  const listener = { listen: '127.0.0.1:0', service: 'api.default:80' };
  const endpoint = { address: inbound.listeners[0].withPort(port), identity: api.spiffe };
  const outbound = await startTestProxy(t, {
    identity: web.settings,
    outbound: { listeners: [listener] },
    mesh: { 'api.yaml': serviceYaml('api', [endpoint]).replaceAll('0.0.0.0', HOST) },
  });
  const open = async (to: { port: number; host: string }) => {
    const socket = connect(to);
    socket.write('!');
    await once(socket, 'data');
    return socket;
  };
  const meshed = await open({ port: outbound.listeners[0].port, host: '127.0.0.1' });
  const stranger = await open({ port, host: HOST });
  const neighbour = await open({ port, host: '127.0.0.1' });
  const cut = once(stranger, 'error');
  inbound.rewriteConfig((text) => text.replace('all-unauthenticated', 'all-authenticated'));
  inbound.kill('SIGHUP');
  t.equal((await cut)[0].code, 'ECONNRESET');
  t.match(await inbound.logged(/since the policy has changed/), { reason: 'policy' });
  for (const socket of [meshed, neighbour]) {
    socket.write('y');
    t.equal(String((await once(socket, 'data'))[0]), 'y', 'it goes on');
    socket.destroy();
  }
  const late = connect({ port, host: HOST });
  late.write('!');
  t.equal((await once(late, 'error'))[0].code, 'ECONNRESET', 'new ones are judged by the new policy');
  await inbound.idle();
});

t.test('SIGHUP: a listener that comes or goes does not bring the policies of the start back', async (t) => {
  if (HOST === undefined) {
    t.plan(0, 'this host has no IPv4 address besides loopback');
    return;
  }
  const echo = await serveEcho(t);
  const identities = await makeIdentities(t);
  const application = { port: echo.address.port, policy: 'all-unauthenticated' };
  const ports = [
    { listen: '127.0.0.1:0', ...application },
    { listen: '0.0.0.0:0', ...application },
  ];
  const proxy = await startTestProxy(t, {
    identity: (await identities.make('api')).settings,
    inbound: { ports },
  });
  const { port } = proxy.listeners[1];
  const refused = async () => {
    const client = connect({ port, host: HOST });
    client.write('!');
    return (await Promise.race([once(client, 'error'), once(client, 'data')]))[0].code === 'ECONNRESET';
  };
  const inForce = async () => (await proxy.configuration()).inbound as { ports: unknown[] };
  const reread = async (...newer: object[]) => {
    const from = proxy.records.length;
    proxy.rewriteConfig((text) => stringify({ ...parse(text), inbound: { listen: [], ports: newer } }));
    proxy.kill('SIGHUP');
    await proxy.logged(/configuration read again/, from);
    return proxy.records.slice(from).map(({ settings }) => settings)[0];
  };
  t.equal(await refused(), false);
  const strict = { ...ports[1], policy: 'all-authenticated' };
  t.equal(await reread(ports[0], strict), undefined);
  t.equal(await refused(), true);
  t.match(await inForce(), { ports: [ports[0], strict] }, '/config says so');
  const third = { ...application, listen: '127.0.0.2:0' };
  t.equal(await reread(ports[0], strict, third), 'inbound.ports');
  t.equal(await refused(), true, 'one more listener');
  t.match((await inForce()).ports, [ports[0], strict], 'which is not there yet');
  t.equal(await reread(third, { ...strict, policy: 'deny' }), 'inbound.ports');
  t.equal(await refused(), true, 'one less, and others in other places');
  t.match(await inForce(), { ports: [ports[0], { policy: 'deny' }] });
  t.equal(await reread(third), 'inbound.ports');
  t.equal(await refused(), true, 'what the file no longer has goes on as it was');
  t.equal(await reread(...ports), undefined, 'back to the start');
  t.equal(await refused(), false);
});

t.test('SIGHUP: what needs a restart is named, and mistakes change nothing', async (t) => {
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('api'),
    mesh: { 'api.yaml': serviceYaml('api', []) },
  });
  proxy.rewriteConfig((text) => text.replace('workers: 1', 'workers: 2'));
  proxy.kill('SIGHUP');
  t.match(await proxy.logged(/need a restart/), { settings: 'workers' });
  proxy.rewriteConfig((text) => text.replace('workers: 2', 'workers: none'));
  proxy.kill('SIGHUP');
  t.match(await proxy.logged(/stays as it is/), { level: 'error', message: /workers: must be auto/ });
  t.equal(await proxy.readiness(), 200);
});

t.test('SIGHUP: heard while the proxy starts', async (t) => {
  const proxy = launchProxy(t, {
    outbound: listenerFor('api'),
    mesh: { 'api.yaml': serviceYaml('api', []) },
  });
  await proxy.logged(/admin server listens/);
  proxy.kill('SIGHUP');
  await proxy.ready();
  await proxy.logged(/configuration read again/);
  t.equal(await proxy.readiness(), 200);
});
