/** `ferrule explain` and the admin port: what it asks, prints and ends with. */
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { dispatch } from '../../proxy/cli/dispatch.ts';
import { command, runExplain } from '../../proxy/cli/explain.ts';
import { renderExplanation, renderLatest } from '../../proxy/cli/explanation-text.ts';
import { EXIT } from '../../proxy/core/errors.ts';
import { log } from '../../proxy/core/log.ts';
import { createContext, createFolder, start } from '../support/admin.ts';
import { explanationOf } from '../support/explanations.ts';

log.level = 'off';

/** The command in this process. */
async function explain(...args: string[]) {
  let [stdout, stderr] = ['', ''];
  const out = (text: string) => {
    stdout += text;
  };
  const err = (text: string) => {
    stderr += text;
  };
  const captured = { ...command, run: (rest: readonly string[]) => runExplain(rest, out) };
  const registry = { explain: async () => ({ command: captured }) };
  const status = await dispatch(['explain', ...args], registry, { out, err, version: () => '1.2.3' });
  return { status, stdout, stderr };
}

/** An admin server with two decisions, and the options that lead to it. */
async function serve(t: Test) {
  const context = createContext();
  context.decisions = [explanationOf({ id: '1-18' }), explanationOf({ id: '0-17' })];
  const server = await start(t, { context });
  return { context, options: ['--admin', String(server.addresses[0]), '--token-file', server.tokenFile!] };
}

/** A port that answers everything in one way, and a token file. */
async function serveOther(t: Test, body: string): Promise<string[]> {
  const server = createServer((_, response) => void response.end(body));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const token = join(createFolder(t), 'token');
  writeFileSync(token, 'a-token\n');
  return ['--admin', `127.0.0.1:${(server.address() as AddressInfo).port}`, '--token-file', token];
}

t.test('prints one request, or the table of the latest', async (t) => {
  const { context, options } = await serve(t);
  const one = await explain('0-17', ...options);
  t.strictSame(one, { status: EXIT.ok, stdout: renderExplanation(context.decisions[1]), stderr: '' });
  const all = await explain(...options);
  t.strictSame(all, { status: EXIT.ok, stdout: renderLatest(context.decisions), stderr: '' });
  context.decisions = [];
  t.equal((await explain(...options)).stdout, 'no HTTP request has come yet\n');
});

t.test('prints JSON for programs', async (t) => {
  const { context, options } = await serve(t);
  t.strictSame(JSON.parse((await explain('0-17', '--json', ...options)).stdout), context.decisions[1]);
  t.strictSame(JSON.parse((await explain('--json', ...options)).stdout), context.decisions);
});

t.test('takes all there can be', async (t) => {
  const { context, options } = await serve(t);
  const message = 'x'.repeat(4_000);
  context.decisions = Array.from({ length: 50 }, (_, index) =>
    explanationOf({ id: `0-${index + 1}`, message }),
  );
  const { status, stdout } = await explain('--json', ...options);
  t.equal(status, EXIT.ok);
  t.equal(JSON.parse(stdout).length, 50, `${stdout.length} bytes`);
});

t.test('says why there is nothing to tell', async (t) => {
  const { options } = await serve(t);
  const unknown = await explain('0-19', ...options);
  t.equal(unknown.status, EXIT.failure);
  t.equal(unknown.stdout, '');
  t.match(unknown.stderr, /^ferrule explain: .*nothing is known of 0-19\n$/);
  const noToken = await explain('0-17', ...options.slice(0, 2), '--token-file', '/nowhere/token');
  t.equal(noToken.status, EXIT.failure);
  t.match(noToken.stderr, /\/nowhere\/token \(ENOENT\); is the proxy running\? .*--token-file/);
  const wrongToken = join(createFolder(t), 'token');
  writeFileSync(wrongToken, 'wrong');
  const refused = await explain('0-17', ...options.slice(0, 2), '--token-file', wrongToken);
  t.equal(refused.status, EXIT.failure);
  t.match(refused.stderr, 'the proxy answers 401');
  // Port 9 is discard's: nobody has it.
  const nobody = await explain('0-17', '--admin', '127.0.0.1:9', '--token-file', wrongToken);
  t.equal(nobody.status, EXIT.failure);
  t.equal(nobody.stderr, 'ferrule explain: nothing listens on 127.0.0.1:9\n');
  const other = await explain('0-17', ...(await serveOther(t, '<html>')));
  t.equal(other.status, EXIT.failure);
  t.match(other.stderr, 'no proxy of ours');
  const endless = await explain('0-17', ...(await serveOther(t, 'x'.repeat(17 << 20))));
  t.equal(endless.status, EXIT.failure);
  t.match(endless.stderr, 'the answer is too long');
});

t.test('names every mistake of the command line', async (t) => {
  const { status, stderr } = await explain('0_17', '0-18', '--admin', 'here', '--jsn');
  t.equal(status, EXIT.usage);
  t.match(stderr, '4 mistakes');
  t.match(stderr, '"0_17" is no id: an id looks like 0-1234');
  t.match(stderr, 'one id at a time, and there is also 0-18');
  t.match(stderr, '--admin must be an address and port');
  t.match(stderr, 'did you mean --json?');
});
