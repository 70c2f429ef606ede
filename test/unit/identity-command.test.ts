import { spawnSync } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import type { Command } from '../../proxy/cli/command.ts';
import { dispatch } from '../../proxy/cli/dispatch.ts';
import { command, runIdentity } from '../../proxy/cli/identity.ts';
import {
  type CertificateOptions,
  type Credential,
  createAuthority,
  issueCertificate,
} from '../../proxy/control/certificates.ts';
import { EXIT } from '../../proxy/core/errors.ts';

const EXECUTABLE = fileURLToPath(new URL('../../proxy/cli/ferrule.ts', import.meta.url));
const ACCOUNT = { serviceAccount: 'web', namespace: 'shop', trustDomain: 'cluster.local' };
const DNS = 'web.shop.serviceaccount.identity.linkerd.cluster.local';
const URI = 'spiffe://cluster.local/ns/shop/sa/web';
const HOUR = 3_600_000;

/** The command in this process: a process for each of so many would take a minute. */
async function identity(...args: string[]) {
  let [stdout, stderr] = ['', ''];
  const out = (text: string) => {
    stdout += text;
  };
  const err = (text: string) => {
    stderr += text;
  };
  const captured: Command = { ...command, run: (rest) => runIdentity(rest, out) };
  const registry = { identity: async () => ({ command: captured }) };
  const status = await dispatch(['identity', ...args], registry, { out, err, version: () => '1.2.3' });
  return { status, stdout, stderr };
}

/** Runs it and expects it to succeed. */
async function made(t: Test, ...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await identity(...args);
  t.equal(status, EXIT.ok, `${args.join(' ')}: ${stderr}`);
  return stdout;
}

function issueArgs(ca: string, out: string, ...more: string[]): string[] {
  return ['issue', '--ca', ca, '--namespace', 'shop', '--service-account', 'web', '--out', out, ...more];
}

const mode = (path: string) => statSync(path).mode & 0o777;
const readCertificate = (path: string) => new X509Certificate(readFileSync(path));

t.test('an authority, a certificate from it, and both in order', async (t) => {
  const folder = t.testdir({});
  const [ca, web] = [join(folder, 'new/ca'), join(folder, 'web')];
  t.match(
    await made(t, 'ca', '--out', ca, '--trust-domain', 'mesh.example'),
    /^wrote .*ca\.crt and .*ca\.key\n/,
  );
  t.strictSame(readdirSync(ca).sort(), ['ca.crt', 'ca.key'], 'no temporary file stays');
  t.equal(mode(join(ca, 'ca.key')), 0o600);
  const stdout = await made(t, ...issueArgs(ca, web, '--key', 'ed25519', '--mesh', 'mesh'));
  t.match(stdout, 'web.shop.serviceaccount.identity.mesh.mesh.example\n');
  t.strictSame(readdirSync(web).sort(), ['ca.crt', 'tls.crt', 'tls.key']);
  t.equal(mode(join(web, 'tls.key')), 0o600);
  const leaf = readCertificate(join(web, 'tls.crt'));
  t.equal(
    leaf.subjectAltName,
    'DNS:web.shop.serviceaccount.identity.mesh.mesh.example, URI:spiffe://mesh.example/ns/shop/sa/web',
  );
  t.equal(leaf.publicKey.asymmetricKeyType, 'ed25519');
  t.ok(leaf.checkPrivateKey(createPrivateKey(readFileSync(join(web, 'tls.key')))));
  t.ok(Math.abs(leaf.validToDate.getTime() - Date.now() - 24 * HOUR) < HOUR / 60, '24 h unless asked for');
  const seen = await made(t, 'inspect', join(web, 'tls.crt'), '--anchors', join(web, 'ca.crt'));
  t.match(seen, /leads to a trust anchor\nNothing is wrong\.\n$/);
});

t.test('issuing again replaces everything, with the right mode', async (t) => {
  const folder = t.testdir({});
  const [ca, web] = [join(folder, 'ca'), join(folder, 'web')];
  await made(t, 'ca', '--out', ca);
  await made(t, ...issueArgs(ca, web));
  const first = readCertificate(join(web, 'tls.crt'));
  chmodSync(join(web, 'tls.key'), 0o644);
  await made(t, ...issueArgs(ca, web, '--lifetime', '1h'));
  const second = readCertificate(join(web, 'tls.crt'));
  t.not(second.serialNumber, first.serialNumber);
  t.ok(second.validToDate < first.validToDate, 'the lifetime asked for');
  t.ok(second.checkPrivateKey(createPrivateKey(readFileSync(join(web, 'tls.key')))));
  t.equal(mode(join(web, 'tls.key')), 0o600, 'a key that others could read is theirs no longer');
});

t.test('a roll-over as the help describes it: at every step both trust each other', async (t) => {
  const folder = t.testdir({});
  const path = (name: string) => join(folder, name);
  const rounds: string[] = [];
  const round = async (ca: string) => {
    rounds.push(`round${rounds.length}`);
    await made(t, ...issueArgs(path(ca), path(rounds.at(-1)!)));
  };
  await made(t, 'ca', '--out', path('old'));
  await round('old');
  await made(t, 'ca', '--out', path('new'));
  const newAlone = readFileSync(path('new/ca.crt'));
  const oldAlone = readFileSync(path('old/ca.crt'));
  appendFileSync(path('old/ca.crt'), newAlone);
  await round('old');
  appendFileSync(path('new/ca.crt'), oldAlone);
  await round('new');
  writeFileSync(path('new/ca.crt'), newAlone);
  await round('new');
  for (const [index, late] of rounds.slice(1).entries()) {
    const early = rounds[index];
    for (const [one, other] of [
      [early, late],
      [late, early],
    ]) {
      await made(t, 'inspect', path(`${one}/tls.crt`), '--anchors', path(`${other}/ca.crt`));
    }
  }
  const { status } = await identity('inspect', path('round0/tls.crt'), '--anchors', path('round3/ca.crt'));
  t.equal(status, EXIT.failure, 'the old root is out');
});

t.test('an authority is never overwritten', async (t) => {
  for (const name of ['ca.crt', 'ca.key']) {
    const folder = t.testdir({ [name]: 'precious' });
    const { status, stderr } = await identity('ca', '--out', folder);
    t.equal(status, EXIT.failure);
    t.match(stderr, `${name} is there already`);
    t.strictSame(readdirSync(folder), [name]);
    t.equal(readFileSync(join(folder, name), 'utf8'), 'precious');
  }
});

t.test('what cannot issue says why', async (t) => {
  const folder = t.testdir({});
  const other = await createAuthority({ trustDomain: 'cluster.local' });
  const expired = await createAuthority({
    trustDomain: 'cluster.local',
    nowMs: Date.now() - 2 * HOUR,
    lifetimeMs: HOUR,
  });
  const authority = await createAuthority({ trustDomain: 'cluster.local' });
  const intermediate = await createAuthority({ trustDomain: 'cluster.local', issuer: authority });
  const leaf = await issueCertificate(authority, ACCOUNT);
  const cases: [string, Partial<Credential>, RegExp, ...string[]][] = [
    ['nothing', {}, /cannot read .*ca\.crt: there is no such file/],
    ['foreign', { ...authority, keyPem: other.keyPem }, /ca\.key is not the key of/],
    ['keyless', { ...authority, keyPem: 'nonsense' }, /holds no private key/],
    ['leaf', leaf, /not an authority's/],
    [
      'expired',
      expired,
      /ca\.crt expired at \d{4}-.*, 1 h 0 min ago; our clock says \d{4}-.*make a new authority/,
    ],
    ['rootless', intermediate, /has no root/],
    ['domain', authority, /trust domain cluster\.local, not x\.example/, '--trust-domain', 'x.example'],
    ['names', authority, /is no DNS name/, '--service-account', 'Web'],
  ];
  for (const [name, { certificatePem, keyPem }, message, ...more] of cases) {
    const ca = join(folder, name);
    mkdirSync(ca);
    if (certificatePem !== undefined) writeFileSync(join(ca, 'ca.crt'), certificatePem);
    if (keyPem !== undefined) writeFileSync(join(ca, 'ca.key'), keyPem);
    const out = join(folder, `${name}-out`);
    const { status, stderr } = await identity(...issueArgs(ca, out, ...more));
    t.not(status, EXIT.ok, name);
    t.match(stderr, message);
    t.notMatch(stderr, 'this is a bug', name);
    t.throws(() => statSync(out), { code: 'ENOENT' }, 'nothing was written');
  }
});

t.test('an intermediate authority puts itself into the chain', async (t) => {
  const folder = t.testdir({ ca: {} });
  const root = await createAuthority({ trustDomain: 'cluster.local' });
  const middle = await createAuthority({ trustDomain: 'cluster.local', issuer: root });
  writeFileSync(join(folder, 'ca/ca.crt'), middle.certificatePem + root.certificatePem);
  writeFileSync(join(folder, 'ca/ca.key'), middle.keyPem);
  await made(t, ...issueArgs(join(folder, 'ca'), join(folder, 'web')));
  const [leaf, anchors] = ['tls.crt', 'ca.crt'].map((name) => join(folder, 'web', name));
  t.equal(readFileSync(anchors, 'utf8'), root.certificatePem, 'only roots are trusted');
  t.match(await made(t, 'inspect', leaf, '--anchors', anchors), /certificate 2 of 2: authority/);
});

t.test('inspection finds what is wrong', async (t) => {
  const folder = t.testdir({});
  const authority = await createAuthority({ trustDomain: 'cluster.local' });
  const anchors = join(folder, 'anchors.crt');
  writeFileSync(anchors, authority.certificatePem);
  const now = Date.now();
  const clocks = /; our clock says \d{4}-\d\d-\d\dT/;
  const cases: [string, Partial<CertificateOptions>, RegExp, RegExp?][] = [
    ['expired', { nowMs: now - 3 * HOUR, lifetimeMs: HOUR }, /expired at \d{4}-.*, 2 h 0 min ago/, clocks],
    ['future', { notBeforeMs: now + 3 * HOUR }, /not valid before \d{4}-.*, in 2 h 59 min/, clocks],
    ['authority', { isCa: true }, /says that it is an authority/],
    ['usage', { keyUsages: ['keyAgreement'] }, /lacks digitalSignature/],
    ['purpose', { extendedKeyUsages: ['clientAuth'] }, /leaves out servers/],
    ['nameless', { names: [] }, /neither a DNS name nor a SPIFFE ID/],
    ['nul', { names: [{ type: 'dns', value: `${DNS}\0.example` }] }, /has a NUL/],
    ['two', { names: ['a', 'b'].map((end) => ({ type: 'url', value: URI + end })) }, /more than one URI/],
  ];
  for (const [name, mistakes, problem, also] of cases) {
    const file = join(folder, `${name}.crt`);
    writeFileSync(file, (await issueCertificate(authority, { ...ACCOUNT, ...mistakes })).certificatePem);
    const text = await identity('inspect', file, '--anchors', anchors);
    t.equal(text.status, EXIT.failure, name);
    t.match(text.stdout, problem);
    if (also !== undefined) t.match(text.stdout, also);
    t.notMatch(text.stdout, /[^\n\x20-\x7e]/, 'names cannot reach the terminal');
    const json = await identity('inspect', file, '--anchors', anchors, '--json');
    t.equal(json.status, EXIT.failure);
    const { ok, chain, certificates } = JSON.parse(json.stdout);
    t.strictSame([ok, chain, certificates.length], [false, 'trusted', 1], name);
    t.equal(certificates[0].problems.length, 1, `${name}: ${certificates[0].problems}`);
    t.match(certificates[0].problems[0], problem);
  }
});

t.test('inspection of chains', async (t) => {
  const folder = t.testdir({});
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const [ours, theirs] = await Promise.all(
    [1, 2].map(() => createAuthority({ trustDomain: 'cluster.local' })),
  );
  const leaf = file('leaf.crt', (await issueCertificate(ours, ACCOUNT)).certificatePem);
  const stranger = await identity('inspect', leaf, '--anchors', file('theirs.crt', theirs.certificatePem));
  t.equal(stranger.status, EXIT.failure);
  t.match(stranger.stdout, /^chain: PROBLEM: .*does not lead to a trust anchor/m);
  const both = file('both.crt', theirs.certificatePem + ours.certificatePem);
  t.equal((await identity('inspect', leaf, '--anchors', both)).status, EXIT.ok, 'two roots side by side');
  const alone = await identity('inspect', leaf);
  t.equal(alone.status, EXIT.ok);
  t.match(alone.stdout, 'chain: not checked; give --anchors');
  const bundle = await identity('inspect', both, '--anchors', both, '--json');
  t.equal(bundle.status, EXIT.ok, 'anchors lead to themselves');
  t.strictSame(
    JSON.parse(bundle.stdout).certificates.map((facts: { kind: string }) => facts.kind),
    ['authority', 'authority'],
  );
});

t.test('--fail-if-expires-in, and everything --json says', async (t) => {
  const folder = t.testdir({});
  const authority = await createAuthority({ trustDomain: 'cluster.local' });
  const file = join(folder, 'tls.crt');
  writeFileSync(
    file,
    (await issueCertificate(authority, { ...ACCOUNT, lifetimeMs: 10 * HOUR })).certificatePem,
  );
  t.equal((await identity('inspect', file, '--fail-if-expires-in', '9h')).status, EXIT.ok);
  const late = await identity('inspect', file, '--fail-if-expires-in', '11h');
  t.equal(late.status, EXIT.failure);
  t.match(late.stdout, /PROBLEM +it expires at .*, in 9 h 59 min, .*our clock says/);
  const found = JSON.parse(await made(t, 'inspect', file, '--json'));
  const x509 = readCertificate(file);
  t.strictSame(Object.keys(found), ['file', 'now', 'ok', 'certificates', 'chain', 'chainProblem']);
  const { remainingSeconds, ...facts } = found.certificates[0];
  t.ok(remainingSeconds > 35_900 && remainingSeconds <= 36_000, String(remainingSeconds));
  t.strictSame(facts, {
    kind: 'workload',
    subject: '',
    issuer: x509.issuer,
    serial: x509.serialNumber.toLowerCase(),
    sha256: x509.fingerprint256.replaceAll(':', '').toLowerCase(),
    key: 'ECDSA P-256',
    identity: DNS,
    names: [
      { type: 'dns', value: DNS },
      { type: 'uri', value: URI },
    ],
    notBefore: x509.validFromDate.toISOString(),
    notAfter: x509.validToDate.toISOString(),
    problems: [],
  });
});

t.test('files that are no certificates', async (t) => {
  const folder = t.testdir({ 'empty.crt': '', 'text.crt': 'hello' });
  for (const [name, message] of [
    ['empty.crt', /is empty/],
    ['text.crt', /has no certificate/],
    ['absent.crt', /there is no such file/],
    ['.', /cannot read/],
  ] as const) {
    const { status, stdout, stderr } = await identity('inspect', join(folder, name));
    t.not(status, EXIT.ok);
    t.equal(stdout, '');
    t.match(stderr, message);
    t.notMatch(stderr, 'this is a bug');
  }
});

t.test('mistakes on the command line end it with 64, all named', async (t) => {
  const cases: [string[], ...RegExp[]][] = [
    [[], /what to do is missing: ca, issue, inspect/],
    [['isue'], /did you mean issue\?/],
    [['ca', '--key', 'rsa', '--lifetime', '1d'], /--out is missing/, /--key must be/, /--lifetime must be/],
    [['issue'], /--ca is missing/, /--namespace is missing/, /--service-account is missing/, /--out is/],
    [['inspect', '--fail-if-expires-in', 'soon'], /FILE is missing/, /--fail-if-expires-in must be/],
    [['inspect', 'a', 'b'], /one FILE at a time/],
  ];
  for (const [args, ...messages] of cases) {
    const { status, stderr } = await identity(...args);
    t.equal(status, EXIT.usage, args.join(' '));
    for (const message of messages) t.match(stderr, message);
  }
});

t.test('the executable has it, and its help tells of every subcommand and option', async (t) => {
  const args = [EXECUTABLE, 'identity', 'issue', '--help'];
  const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  t.equal(status, EXIT.ok);
  t.equal(stdout, command.usage);
  for (const word of [
    'identity ca [',
    'identity issue [',
    'identity inspect [',
    '--mesh',
    '--anchors',
    '--json',
  ]) {
    t.match(stdout, word);
  }
  const file = join(t.testdir({}), 'tls.crt');
  const { certificatePem } = await issueCertificate(await createAuthority(ACCOUNT), ACCOUNT);
  writeFileSync(file, certificatePem);
  const seen = spawnSync(process.execPath, [EXECUTABLE, 'identity', 'inspect', file], { encoding: 'utf8' });
  t.equal(seen.status, EXIT.ok);
  t.match(seen.stdout, URI);
});
