/** Our identity from real files, and everything that is done to such files. */
import { mkdirSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import t from 'tap';
import type { CertificateOptions, Credential } from '../../proxy/control/certificates.ts';
import {
  HOUR_MS,
  issue,
  lines,
  MINUTE_MS,
  put,
  putAll,
  Rig,
  root,
  started,
  stranger,
  until,
} from '../support/identity-rig.ts';

const WEB_DNS = 'web.shop.serviceaccount.identity.linkerd.cluster.local';
const WEB_SPIFFE = 'spiffe://cluster.local/ns/shop/sa/web';

t.test('what is handed out at the start', async (t) => {
  const credential = await issue({ lifetimeMs: HOUR_MS, key: 'ed25519' });
  const before = Math.floor(Date.now() / 1000) * 1000;
  const rig = await started(t, credential);
  t.equal(rig.files.unready(), undefined);
  const [identity] = rig.handed;
  t.match(identity, {
    version: 1,
    identity: WEB_SPIFFE,
    serverName: WEB_DNS,
    certificatePem: credential.certificatePem,
    keyPem: credential.keyPem,
    trustAnchorsPem: root.certificatePem,
  });
  t.ok(Math.abs(identity.notAfterMs - (before + HOUR_MS)) < MINUTE_MS);
  t.ok(Math.abs(identity.notBeforeMs - (before - 5 * MINUTE_MS)) < MINUTE_MS);
  t.ok(identity.trustAnchorNotAfterMs > before + 3649 * 24 * HOUR_MS);
  t.match(
    rig.files.unready(identity.notAfterMs),
    /expired at .*Z, \d+ s ago; our clock says .*Z/,
    'its end makes unready',
  );
});

t.test('ten rotations, then files that stay as they are', async (t) => {
  const rig = await started(t);
  for (let round = 2; round <= 11; round++) {
    const next = await issue({ key: round % 2 === 0 ? 'ed25519' : 'p256' });
    putAll(rig.dir, next);
    await until(`rotation ${round}`, () => rig.newest === next.certificatePem);
    t.equal(rig.handed.at(-1)?.keyPem, next.keyPem, 'never a mixed pair');
    t.equal(rig.handed.at(-1)?.version, rig.handed.length);
  }
  const before = rig.handed.length;
  t.equal(before, 11, 'each once');
  put(rig.dir, 'tls.crt', rig.newest ?? '');
  const last = await issue();
  putAll(rig.dir, last);
  await until('the last one', () => rig.newest === last.certificatePem);
  t.equal(rig.handed.length, before + 1, 'the same text again was no change');
  t.equal(rig.files.failures, 0);
});

t.test('files replaced one after the other, with a pause, are no failure', async (t) => {
  const rig = await started(t);
  const next = await issue();
  put(rig.dir, 'tls.crt', next.certificatePem);
  await rig.looked();
  t.equal(rig.handed.length, 1, 'the old pair stays meanwhile');
  put(rig.dir, 'tls.key', next.keyPem);
  await until('the pair fits', () => rig.newest === next.certificatePem);
  t.equal(rig.files.failures, 0);
  t.equal(rig.said('the key is not that of the certificate'), 0, 'nothing was said');
});

t.test('a pair that never fits is told of once, and the old one stays', async (t) => {
  const rig = await started(t);
  const old = rig.newest;
  const next = await issue();
  put(rig.dir, 'tls.crt', next.certificatePem);
  await until('it is a failure', () => rig.files.failures > 0);
  t.equal(rig.said('the key is not that of the certificate; the one we have stays in use'), 1);
  t.equal(rig.files.current?.certificatePem, old);
  t.equal(rig.files.unready(), undefined, 'still ready');
  put(rig.dir, 'tls.key', next.keyPem);
  await until('mended', () => rig.newest === next.certificatePem);
  t.equal(rig.files.failures, 1);
});

t.test('Kubernetes swaps a link', async (t) => {
  const dir = t.testdir({});
  const version = async (name: string) => {
    const credential = await issue();
    mkdirSync(join(dir, name));
    putAll(join(dir, name), credential);
    symlinkSync(name, join(dir, '..data_tmp'));
    renameSync(join(dir, '..data_tmp'), join(dir, '..data'));
    return credential;
  };
  await version('..2026_1');
  for (const file of ['tls.crt', 'tls.key', 'ca.crt']) symlinkSync(`..data/${file}`, join(dir, file));
  const rig = new Rig(t, dir);
  await rig.files.start();
  t.equal(rig.handed.length, 1);
  const second = await version('..2026_2');
  rmSync(join(dir, '..2026_1'), { recursive: true });
  await until('the swap is seen', () => rig.newest === second.certificatePem);
  t.equal(rig.files.failures, 0);
});

t.test('the root rolls over: both, then the new one alone', async (t) => {
  const rig = await started(t);
  put(rig.dir, 'ca.crt', `${root.certificatePem}${stranger.certificatePem}`);
  await until('both', () => rig.handed.length === 2);
  t.match(rig.handed[1].trustAnchorsPem, stranger.certificatePem);
  const next = await issue({}, stranger);
  put(rig.dir, 'tls.key', next.keyPem);
  put(rig.dir, 'tls.crt', next.certificatePem);
  await until('a certificate of the new root', () => rig.newest === next.certificatePem);
  put(rig.dir, 'ca.crt', stranger.certificatePem);
  await until('the new root alone', () => rig.handed.at(-1)?.trustAnchorsPem === stranger.certificatePem);
  put(rig.dir, 'ca.crt', root.certificatePem);
  await until('the wrong root alone', () => rig.files.failures === 1);
  t.equal(rig.said('does not lead to a trust anchor'), 1);
  t.equal(rig.files.current?.trustAnchorsPem, stranger.certificatePem);
});

t.test('files that are not there yet', async (t) => {
  const dir = t.testdir({});
  const rig = new Rig(t, dir);
  await rig.files.start();
  for (const name of ['tls.crt', 'tls.key', 'ca.crt']) {
    t.match(rig.files.unready(), `${name} is not there (\`ferrule identity issue\` makes such files)`);
  }
  t.equal(rig.files.failures, 1);
  putAll(dir, await issue());
  await until('they are mounted', () => rig.handed.length === 1);
  t.equal(rig.files.unready(), undefined);
  const credential = await issue();
  const { failures } = rig.files;
  rmSync(join(dir, 'tls.key'));
  await until('a key that goes away', () => rig.files.failures > failures);
  t.equal(rig.said('; the one we have stays in use'), 1);
  t.equal(rig.files.unready(), undefined, 'is no loss');
  putAll(dir, credential);
  await until('and it is back', () => rig.newest === credential.certificatePem);
});

t.test('a certificate that begins soon is loaded, one that begins later when it does', async (t) => {
  const soon = await started(t, await issue({ notBeforeMs: Date.now() + 2 * MINUTE_MS }));
  t.equal(soon.handed.length, 1);
  t.ok(
    lines.some((line) => /clocks differ.* notBefore=\S+Z now=\S+Z/.test(line)),
    'with a word about both clocks',
  );
  // Five minutes ahead are let pass, so this one can be used in about three seconds.
  const startMs = Math.ceil((Date.now() + 5 * MINUTE_MS + 2_500) / 1000) * 1000;
  const later = await started(t, await issue({ notBeforeMs: startMs }));
  t.match(later.files.unready(), /is not valid before .*Z, in 5 min; our clock says .*Z/);
  await until('its time has come', () => later.handed.length === 1);
  t.equal(later.said('is not valid before'), 1, 'told of once, though looked at often');
  t.equal(later.files.failures, 1);
});

const refused: Record<string, [Partial<CertificateOptions>, RegExp]> = {
  expired: [
    { notBeforeMs: 0, lifetimeMs: -MINUTE_MS },
    /the certificate expired at .*Z, .* ago; our clock says .*Z/,
  ],
  'two URI names': [
    { names: [1, 2].map((n) => ({ type: 'url', value: `${WEB_SPIFFE}${n}` })) },
    /more than one URI name/,
  ],
  'a NUL in a name': [{ names: [{ type: 'dns', value: `${WEB_DNS}\0.evil.example` }] }, /has a NUL/],
  'a comma in a name': [{ names: [{ type: 'dns', value: `a, URI:${WEB_SPIFFE}` }] }, /has a NUL, a blank or/],
  'names of two accounts': [
    {
      names: [
        { type: 'dns', value: WEB_DNS },
        { type: 'url', value: 'spiffe://cluster.local/ns/shop/sa/admin' },
      ],
    },
    /of different accounts/,
  ],
  'no name': [{ names: [] }, /neither a DNS name nor a SPIFFE ID/],
  'a SPIFFE ID that implies no server name': [
    { names: [{ type: 'url', value: 'spiffe://cluster.local/billing' }] },
    /does not imply one/,
  ],
  'CA:TRUE': [{ isCa: true }, /says that it is an authority/],
  'CA:TRUE with the key usage of one': [
    { isCa: true, keyUsages: ['keyCertSign', 'digitalSignature'] },
    /says that it is an authority/,
  ],
  'no digitalSignature': [{ keyUsages: ['keyAgreement'] }, /key usage lacks digitalSignature/],
  'for clients only': [{ extendedKeyUsages: ['clientAuth'] }, /leaves out servers \(serverAuth\)/],
};

for (const [what, [options, problem]] of Object.entries(refused)) {
  t.test(`refused: ${what}`, async (t) => {
    const first = await started(t, await issue(options));
    t.match(first.files.unready(), problem, 'at the start');
    t.equal(first.handed.length, 0);
    putAll(first.dir, await issue());
    await until('good files end it', () => first.files.unready() === undefined);
  });
}

t.test('PEM as people leave it', async (t) => {
  const untidy = (pem: string) => `who: me\n${pem.replaceAll(/^/gm, '  ').replaceAll('\n', ' \r\n')}`;
  const issued = await issue();
  const rig = await started(t, { ...issued, certificatePem: untidy(issued.certificatePem) });
  t.equal(rig.files.unready(), undefined);
  const { certificatePem, keyPem, trustAnchorsPem } = rig.handed[0];
  // OpenSSL's reader of PEM, which workers have, takes neither blanks nor much else.
  createSecureContext({ cert: certificatePem, key: keyPem, ca: trustAnchorsPem });
  t.throws(
    () => createSecureContext({ cert: untidy(issued.certificatePem) }),
    'it would not have taken the file',
  );
});

t.test('absent usages allow everything', async (t) => {
  const rig = await started(t, await issue({ keyUsages: [], extendedKeyUsages: [] }));
  t.equal(rig.files.unready(), undefined);
});

const labels: Record<string, (pem: string) => string> = {
  'X509 CERTIFICATE': (pem) => pem.replaceAll(' CERTIFICATE', ' X509 CERTIFICATE'),
  'both labels': (pem) => pem.replace(' CERTIFICATE', ' X509 CERTIFICATE').replace('END ', 'END X509 ') + pem,
};

for (const [what, relabel] of Object.entries(labels)) {
  t.test(`PEM labels: ${what}`, async (t) => {
    const credential = await issue();
    const rig = new Rig(t, t.testdir({}));
    putAll(
      rig.dir,
      { ...credential, certificatePem: relabel(credential.certificatePem) },
      relabel(root.certificatePem),
    );
    await rig.files.start();
    t.equal(rig.files.unready(), undefined);
    t.notMatch(rig.newest, 'X509', 'others get the label everybody reads');
  });
}

const damaged: Record<string, [file: string, text: (good: Credential) => string, RegExp]> = {
  'an empty certificate': ['tls.crt', () => '', /the certificate file is empty/],
  'a text that is none': [
    'tls.crt',
    () => 'hello',
    /the certificate file has no certificate: it must be PEM/,
  ],
  'a key in its place': ['tls.crt', ({ keyPem }) => keyPem, /the certificate file has no certificate/],
  'a certificate cut short': [
    'tls.crt',
    ({ certificatePem }) => certificatePem.slice(0, 300),
    /the certificate file is cut short/,
  ],
  'a certificate with a hole': [
    'tls.crt',
    ({ certificatePem }) => certificatePem.replace(/\n[^\n]+\n/, '\n'),
    /the certificate in it cannot be read/,
  ],
  'an old label cut short': [
    'tls.crt',
    ({ certificatePem }) => certificatePem.replace('BEGIN ', 'BEGIN X509 '),
    /the certificate file is cut short/,
  ],
  'a certificate in a format of OpenSSL alone': [
    'ca.crt',
    () => root.certificatePem.replaceAll(' CERTIFICATE', ' TRUSTED CERTIFICATE'),
    /the trust anchors file has a TRUSTED CERTIFICATE.*`openssl x509 -in FILE`/,
  ],
  'anchors cut short': [
    'ca.crt',
    () => root.certificatePem + stranger.certificatePem.slice(0, 200),
    /the trust anchors file is cut short/,
  ],
  'a certificate for a key': ['tls.key', ({ certificatePem }) => certificatePem, /holds no private key/],
  'the key of another': ['tls.key', () => root.keyPem, /the key is not that of the certificate/],
};

for (const [what, [file, text, problem]] of Object.entries(damaged)) {
  t.test(`damaged: ${what}`, async (t) => {
    const dir = t.testdir({});
    const good = await issue();
    putAll(dir, good);
    put(dir, file, text(good));
    const rig = new Rig(t, dir);
    await rig.files.start();
    t.match(rig.files.unready(), problem);
    putAll(dir, good);
    await until('repaired', () => rig.files.unready() === undefined);
  });
}

t.test('a bad certificate after a good one: the old one stays, one line says why', async (t) => {
  const rig = await started(t);
  const old = rig.newest;
  putAll(rig.dir, await issue({ notBeforeMs: 0, lifetimeMs: -MINUTE_MS }));
  await until('it is a failure', () => rig.files.failures === 1);
  await rig.looked();
  t.equal(rig.said('expired at'), 1, 'though each look had another time on the clock');
  t.equal(rig.files.failures, 1);
  t.equal(rig.handed.length, 1);
  t.equal(rig.files.current?.certificatePem, old);
});
