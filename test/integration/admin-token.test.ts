/** The admin token's file: who can read it, where it goes, and what happens when it cannot be written. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { createToken, tokenFileCandidates } from '../../proxy/admin/token.ts';
import { log } from '../../proxy/core/log.ts';
import { createContext, createFolder, start } from '../support/admin.ts';
import { request } from '../support/http.ts';

log.level = 'off';

t.test('the file is private, in a private folder, and goes with the server', async (t) => {
  const file = join(createFolder(t), 'made', 'token');
  const server = await start(t, { tokenFile: file });
  t.equal(server.tokenFile, file);
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.equal(statSync(join(file, '..')).mode & 0o777, 0o700);
  t.match(readFileSync(file, 'utf8'), /^[A-Za-z0-9_-]{43}\n$/);
  await server.close();
  t.notOk(existsSync(file));
});

t.test('every start has another token, and only the right one matches', async (t) => {
  const folder = createFolder(t);
  const tokens = ['a', 'b'].map((name) => createToken(join(folder, name), 1, {}));
  const texts = tokens.map(({ file }) => readFileSync(file!, 'utf8').trim());
  t.not(texts[0], texts[1]);
  t.ok(tokens[0].matches(texts[0]));
  for (const wrong of [texts[1], '', `${texts[0]}x`, texts[0].slice(1), texts[0].toUpperCase()]) {
    t.notOk(tokens[0].matches(wrong));
  }
});

t.test('a file left behind is replaced, a file that is not ours is not touched', async (t) => {
  const folder = createFolder(t);
  const file = join(folder, 'token');
  writeFileSync(file, 'old\n', { mode: 0o644 });
  const token = createToken(file, 1, {});
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.notOk(token.matches('old'));
  const second = createToken(file, 1, {});
  token.remove();
  t.ok(second.matches(readFileSync(file, 'utf8').trim()), 'the file of a successor stays');
  second.remove();
  t.notOk(existsSync(file));
  second.remove();
  const target = join(folder, 'target');
  writeFileSync(target, 'precious');
  symlinkSync(target, file);
  t.throws(() => createToken(file, 1, {}), {
    name: 'UserError',
    exitCode: 71,
    message: /not an admin token of ours/,
  });
  t.equal(readFileSync(target, 'utf8'), 'precious');
});

t.test('a folder others can write to is refused', async (t) => {
  const folder = createFolder(t);
  const shared = join(folder, 'shared');
  mkdirSync(shared);
  chmodSync(shared, 0o777);
  t.throws(() => createToken(join(shared, 'token'), 1, {}), {
    message: /written to by others \(mode 777\).*0700/,
  });
  t.ok(createToken(join(shared, 'own', 'token'), 1, {}).file, 'a folder of our own in it will do');
  const link = join(folder, 'link');
  symlinkSync(shared, link);
  t.throws(() => createToken(join(link, 'token'), 1, {}), { message: /not a folder/ });
  writeFileSync(join(folder, 'file'), '');
  t.throws(() => createToken(join(folder, 'file', 'token'), 1, {}), {
    name: 'UserError',
    message: /cannot be written/,
  });
});

t.test('without a configured file the first folder that works is used, named after the port', async (t) => {
  const runtime = createFolder(t);
  const env = { XDG_RUNTIME_DIR: runtime };
  t.equal(tokenFileCandidates(4191, env)[0], join(runtime, 'ferrule', 'admin-4191.token'));
  t.same(tokenFileCandidates(4191, {}), [
    '/run/ferrule/admin-4191.token',
    join(tmpdir(), `ferrule-${process.getuid!()}`, 'admin-4191.token'),
  ]);
  const server = await start(t, { tokenFile: undefined, context: createContext(env) });
  t.equal(server.tokenFile, join(runtime, 'ferrule', `admin-${server.addresses[0].port}.token`));
});

t.test('where a token file cannot be had, a configured one is an error', async (t) => {
  const blocked = join(createFolder(t), 'file');
  writeFileSync(blocked, '');
  await t.rejects(start(t, { tokenFile: join(blocked, 'token') }), { name: 'UserError', exitCode: 71 });
});

t.test('no address, no server, no token', async (t) => {
  const file = join(createFolder(t), 'token');
  const server = await start(t, { listen: [], tokenFile: file });
  t.same(server.addresses, []);
  t.equal(server.tokenFile, undefined);
  t.notOk(existsSync(file));
  await t.resolves(server.close());
});

t.test('the default back end is chosen by what loads', async (t) => {
  const server = await start(t);
  t.match(server.backend, /^(node:http|uWebSockets\.js)$/);
  t.equal((await request('127.0.0.1', server.addresses[0].port, 'GET /live', ['Host: x'])).status, 200);
});
