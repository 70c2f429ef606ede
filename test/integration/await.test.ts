/** `ferrule await`: when it starts its application, how that ends, and what the proxy learns of it. */
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { createFolder } from '../support/admin.ts';
import { type AwaitOptions, startAwait } from '../support/await.ts';
import { exchangeMany, serveEcho } from '../support/exchange.ts';
import {
  eventually,
  listenerFor,
  type ProxyStart,
  serviceYaml,
  startTestProxy,
  type TestProxy,
} from '../support/proxy.ts';

/** An admin port that says what a test wants, and takes every token. */
async function serveAdmin(t: Test) {
  const state = { ready: true, asked: 0, held: [] as ServerResponse[] };
  const server = createServer((request, response) => {
    if (request.url === '/ready') {
      state.asked++;
      response.writeHead(state.ready ? 200 : 503).end(JSON.stringify({ reasons: ['no certificate yet'] }));
    } else {
      state.held.push(response);
      response.writeHead(200).write('\n');
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { state, admin: `127.0.0.1:${(server.address() as AddressInfo).port}` };
}

function tokenIn(folder: string): string {
  const file = join(folder, 'token');
  writeFileSync(file, 'a-token\n');
  return file;
}

async function echoProxy(t: Test, more: ProxyStart): Promise<{ proxy: TestProxy; options: AwaitOptions }> {
  const origin = await serveEcho(t);
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('web'),
    mesh: { 'web.yaml': serviceYaml('web', [origin]) },
    ...more,
  });
  const { admin, token } = await proxy.logged(/^ready$/);
  return { proxy, options: { admin: String(admin), tokenFile: String(token) } };
}

t.test('ends with the status of the application', async (t) => {
  const { admin } = await serveAdmin(t);
  const folder = createFolder(t);
  const plain = join(folder, 'plain');
  writeFileSync(plain, 'true\n');
  chmodSync(plain, 0o644);
  for (const [status, ...cmd] of [
    [0, 'true'],
    [7, 'sh', '-c', 'exit 7'],
    [137, 'sh', '-c', 'kill -KILL $$'],
    [127, join(folder, 'absent')],
    [126, plain],
    [126, folder],
  ] as const) {
    const run = startAwait(t, { admin }, cmd);
    t.same(await run.ended, { status, signal: null }, cmd.join(' '));
    if (status === 126 || status === 127) t.match(run.stderr, `${cmd[0]} cannot be run`);
  }
});

t.test('gives input, output, arguments and environment to the application', async (t) => {
  const { admin } = await serveAdmin(t);
  const run = startAwait(t, { admin }, ['sh', '-c', 'read line; echo "$line $1 $HOME"', 'sh', '--timeout']);
  run.child.stdin.end('hello\n');
  t.same(await run.ended, { status: 0, signal: null });
  t.equal(run.stdout, `hello --timeout ${process.env.HOME}\n`);
});

t.test('starts nothing before the proxy is ready, and says what is missing', async (t) => {
  const { admin, state } = await serveAdmin(t);
  state.ready = false;
  const run = startAwait(t, { admin }, ['echo', 'started']);
  await eventually('word of the reason', () => run.stderr.includes('no certificate yet') || undefined);
  t.match(run.stderr, /waiting for the proxy, [\d.]+ s so far/);
  t.equal(run.stdout, '');
  state.ready = true;
  t.same(await run.ended, { status: 0, signal: null });
  t.equal(run.stdout, 'started\n');
});

t.test('gives up after the timeout', async (t) => {
  const { admin, state } = await serveAdmin(t);
  state.ready = false;
  const marker = join(createFolder(t), 'marker');
  const late = startAwait(t, { admin, more: ['--timeout', '300ms'] }, ['touch', marker]);
  t.same(await late.ended, { status: 69, signal: null });
  t.match(late.stderr, /not ready within [\d.]+ s: no certificate yet/);
  t.notOk(existsSync(marker));
  const nobody = startAwait(t, { admin: '127.0.0.1:1', more: ['--timeout', '300ms'] }, ['touch', marker]);
  t.same(await nobody.ended, { status: 69, signal: null });
  t.match(nobody.stderr, 'nothing listens on 127.0.0.1:1');
});

t.test('a signal ends the wait', async (t) => {
  const { admin, state } = await serveAdmin(t);
  state.ready = false;
  const marker = join(createFolder(t), 'marker');
  const run = startAwait(t, { admin }, ['touch', marker]);
  await eventually('the first question', () => state.asked > 0 || undefined);
  run.child.kill('SIGTERM');
  t.same(await run.ended, { status: 143, signal: null });
  t.notOk(existsSync(marker));
});

t.test('mistakes on the command line are named, all of them', async (t) => {
  const run = startAwait(t, { admin: 'nowhere', more: ['--timeout', 'soon'] }, []);
  t.same(await run.ended, { status: 64, signal: null });
  for (const named of ['--timeout must be a duration', '--admin must be', 'a command is missing']) {
    t.match(run.stderr, named);
  }
});

t.test('passes signals on', async (t) => {
  const { admin } = await serveAdmin(t);
  const names = ['SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH', 'SIGINT', 'SIGTERM'] as const;
  const script = `
    for (const name of ${JSON.stringify(names)}) process.on(name, () => console.log(name));
    process.on('SIGTERM', () => process.exit(5));
    setInterval(() => {}, 1000);
    console.log('up');`;
  const run = startAwait(t, { admin }, [process.execPath, '-e', script]);
  await eventually('the application', () => run.stdout.includes('up') || undefined);
  for (const name of names) {
    run.child.kill(name);
    await eventually(
      name,
      () => run.stdout.includes(name) || undefined,
      () => run.stdout,
    );
  }
  t.same(await run.ended, { status: 5, signal: null });
  t.equal(run.stdout, ['up', ...names, ''].join('\n'), 'each once');
});

t.test('registers again with a proxy that was restarted', async (t) => {
  const { admin, state } = await serveAdmin(t);
  const run = startAwait(t, { admin, tokenFile: tokenIn(createFolder(t)) }, ['sh', '-c', 'read line']);
  await eventually('the first registration', () => state.held.length === 1 || undefined);
  state.held[0].destroy();
  await eventually('the second registration', () => state.held.length === 2 || undefined);
  t.match(run.stderr, 'the proxy has ended');
  t.equal(run.child.exitCode, null, 'the application is not touched');
  run.child.stdin.end('\n');
  t.same(await run.ended, { status: 0, signal: null });
});

t.test('a proxy that stops keeps outbound open until the application has ended', async (t) => {
  const shutdown = { grace: '10m', drainDelay: '0s' };
  const { proxy, options } = await echoProxy(t, { shutdown });
  const control = await echoProxy(t, { shutdown });
  const run = startAwait(t, options, ['sh', '-c', 'read line']);
  await proxy.logged(/^an application is waited for$/);
  proxy.kill('SIGTERM');
  await proxy.logged(/^inbound closed$/);
  // The same proxy without an application: when it has found itself quiet, so would have the other one.
  t.same(await control.proxy.stop(), { status: 0, signal: null });
  t.same(await exchangeMany(proxy.listeners[0], 5, 1, 100), [], 'still dials for the application');
  run.child.stdin.end('\n');
  t.same(await run.ended, { status: 0, signal: null });
  t.same(await proxy.ended, { status: 0, signal: null });
  const [ended, closed] = await Promise.all([
    proxy.logged(/^an application has ended$/),
    proxy.logged(/^outbound closed$/),
  ]);
  const tookMs = Date.parse(String(closed.time)) - Date.parse(String(ended.time));
  t.ok(tookMs < 2_000, `not waiting for quiet: ${tookMs} ms`);
});

t.test('an application that is killed together with its await has ended, too', async (t) => {
  const { proxy, options } = await echoProxy(t, { shutdown: { grace: '10m', drainDelay: '0s' } });
  const run = startAwait(t, options, ['sh', '-c', 'read line']);
  await proxy.logged(/^an application is waited for$/);
  proxy.kill('SIGTERM');
  await proxy.logged(/^inbound closed$/);
  run.child.kill('SIGKILL');
  t.same(await proxy.ended, { status: 0, signal: null });
});

t.test('without the token it works, uncounted', async (t) => {
  const { proxy, options } = await echoProxy(t, {});
  const tokenFile = join(createFolder(t), 'absent');
  const run = startAwait(t, { ...options, tokenFile }, ['true']);
  t.same(await run.ended, { status: 0, signal: null });
  t.match(
    run.stderr,
    `will not wait for the application: the admin token cannot be read: ${tokenFile} (ENOENT)`,
  );
  t.notMatch(proxy.said(), 'is waited for');
  const wrong = startAwait(t, { ...options, tokenFile: tokenIn(createFolder(t)) }, ['true']);
  t.same(await wrong.ended, { status: 0, signal: null });
  t.match(wrong.stderr, 'the token is not the one in');
});

t.test('--shutdown stops the proxy after the application, whatever its status', async (t) => {
  for (const status of [0, 3]) {
    const { proxy, options } = await echoProxy(t, { shutdown: { grace: '10m', drainDelay: '0s' } });
    const run = startAwait(t, { ...options, more: ['--shutdown'] }, ['sh', '-c', `exit ${status}`]);
    t.same(await run.ended, { status, signal: null });
    t.same(await proxy.ended, { status: 0, signal: null });
    t.match(await proxy.logged(/^stopping$/), { cause: '/shutdown' });
  }
});

t.test('--shutdown without a token starts nothing', async (t) => {
  const { proxy, options } = await echoProxy(t, {});
  const folder = createFolder(t);
  const absent = { ...options, tokenFile: join(folder, 'absent'), more: ['--shutdown'] };
  const run = startAwait(t, absent, ['touch', join(folder, 'marker')]);
  t.same(await run.ended, { status: 69, signal: null });
  t.match(run.stderr, '--shutdown needs the token');
  t.notOk(existsSync(join(folder, 'marker')));
  t.equal(await proxy.readiness(), 200);
  t.ok(readFileSync(String(options.tokenFile), 'utf8').length > 0, 'nobody took it away');
});
