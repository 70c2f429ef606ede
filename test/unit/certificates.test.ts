import { spawnSync } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import {
  type CertificateOptions,
  type Credential,
  createAuthority,
  issueCertificate,
  type KeyKind,
} from '../../proxy/control/certificates.ts';
import { requirePeer } from '../support/peers.ts';

const ACCOUNT = { serviceAccount: 'web', namespace: 'shop', trustDomain: 'cluster.local' };
const DNS = 'web.shop.serviceaccount.identity.linkerd.cluster.local';
const URI = 'spiffe://cluster.local/ns/shop/sa/web';

const SECOND = 1000;
const HOUR = 3600 * SECOND;

/** What `openssl verify` says of a certificate, for a purpose (`sslserver`, `sslclient`). */
function verify(
  t: Test,
  openssl: string,
  chain: { roots: string[]; untrusted?: string; leaf: string },
  purpose: string,
) {
  const folder = t.testdir({});
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const args = [
    'verify',
    '-x509_strict',
    '-purpose',
    purpose,
    '-CAfile',
    file('roots.pem', chain.roots.join('')),
  ];
  if (chain.untrusted !== undefined) args.push('-untrusted', file('untrusted.pem', chain.untrusted));
  const { status, stdout, stderr } = spawnSync(openssl, [...args, file('leaf.pem', chain.leaf)], {
    encoding: 'utf8',
  });
  return { status, text: stdout + stderr };
}

function textOf(openssl: string, { certificatePem }: Credential): string {
  const args = ['x509', '-noout', '-text'];
  return spawnSync(openssl, args, { encoding: 'utf8', input: certificatePem }).stdout;
}

for (const authorityKey of ['p256', 'ed25519'] as const) {
  for (const key of ['p256', 'ed25519'] as const) {
    t.test(`a ${key} certificate of a ${authorityKey} authority`, (t) => proper(t, authorityKey, key));
  }
}

async function proper(t: Test, authorityKey: KeyKind, key: KeyKind) {
  const openssl = requirePeer(t, 'openssl');
  const begun = Date.now();
  const authority = await createAuthority({ trustDomain: 'cluster.local', key: authorityKey });
  const issued = await issueCertificate(authority, { ...ACCOUNT, key });
  const root = new X509Certificate(authority.certificatePem);
  const leaf = new X509Certificate(issued.certificatePem);
  t.ok(root.ca);
  t.ok(root.verify(root.publicKey), 'self-signed');
  t.equal(root.subjectAltName, 'URI:spiffe://cluster.local');
  t.equal(leaf.ca, false);
  t.ok(leaf.checkIssued(root) && leaf.verify(root.publicKey), 'issued by the authority');
  t.ok(leaf.checkPrivateKey(createPrivateKey(issued.keyPem)), "the key is the certificate's");
  t.match(issued.keyPem, /^-----BEGIN PRIVATE KEY-----\n/);
  t.equal(leaf.publicKey.asymmetricKeyType, key === 'p256' ? 'ec' : 'ed25519');
  t.equal(leaf.subjectAltName, `DNS:${DNS}, URI:${URI}`, 'the DNS form comes first');
  const near = (found: Date, wanted: number) => Math.abs(found.getTime() - wanted) < 30 * SECOND;
  t.ok(near(leaf.validFromDate, begun - HOUR / 12), 'backdated by five minutes');
  t.ok(near(leaf.validToDate, begun + 24 * HOUR));
  t.ok(near(root.validToDate, begun + 3650 * 24 * HOUR));
  if (openssl === undefined) return;
  const chain = { roots: [authority.certificatePem], leaf: issued.certificatePem };
  for (const purpose of ['sslserver', 'sslclient']) {
    const { status, text } = verify(t, openssl, chain, purpose);
    t.equal(status, 0, `${purpose}: ${text}`);
  }
  const text = textOf(openssl, issued);
  t.match(text, /Key Usage: critical\s+Digital Signature\n/);
  t.match(text, /Extended Key Usage: \s+TLS Web Server Authentication, TLS Web Client Authentication\n/);
  t.match(text, /Basic Constraints: critical\s+CA:FALSE\n/);
}

t.test("two roots of one name are told apart, and a stranger's is none", async (t) => {
  const openssl = requirePeer(t, 'openssl');
  if (openssl === undefined) return;
  const [old, next] = await Promise.all([1, 2].map(() => createAuthority({ trustDomain: 'cluster.local' })));
  const leaf = (await issueCertificate(next, ACCOUNT)).certificatePem;
  const both = verify(t, openssl, { roots: [old.certificatePem, next.certificatePem], leaf }, 'sslserver');
  t.equal(both.status, 0, both.text);
  t.not(verify(t, openssl, { roots: [old.certificatePem], leaf }, 'sslserver').status, 0);
});

t.test('an intermediate authority issues', async (t) => {
  const openssl = requirePeer(t, 'openssl');
  if (openssl === undefined) return;
  const root = await createAuthority({ trustDomain: 'cluster.local' });
  const middle = await createAuthority({ trustDomain: 'cluster.local', issuer: root });
  const leaf = (await issueCertificate(middle, ACCOUNT)).certificatePem;
  const chain = { roots: [root.certificatePem], untrusted: leaf, leaf };
  const { status, text } = verify(t, openssl, chain, 'sslclient');
  t.equal(status, 0, text);
});

t.test("lifetimes: asked for, cut at the authority's end, or given outright", async (t) => {
  const authority = await createAuthority({ trustDomain: 'cluster.local', lifetimeMs: 2 * HOUR });
  const root = new X509Certificate(authority.certificatePem);
  const issued = async (request: Partial<CertificateOptions>) =>
    new X509Certificate((await issueCertificate(authority, { ...ACCOUNT, ...request })).certificatePem);
  const short = await issued({ lifetimeMs: HOUR });
  t.ok(Math.abs(short.validToDate.getTime() - Date.now() - HOUR) < 30 * SECOND);
  t.same((await issued({})).validToDate, root.validToDate, 'does not outlive its authority');
  const nowMs = Date.parse('2020-01-01T00:00:00Z');
  const past = await issued({ nowMs, notBeforeMs: nowMs - HOUR, lifetimeMs: HOUR });
  t.same([past.validFromDate, past.validToDate], [new Date(nowMs - HOUR), new Date(nowMs + HOUR)]);
});

t.test("the mesh's label can be another", async (t) => {
  const authority = await createAuthority({ trustDomain: 'cluster.local' });
  const { certificatePem } = await issueCertificate(authority, { ...ACCOUNT, mesh: 'mesh' });
  t.match(
    new X509Certificate(certificatePem).subjectAltName,
    /^DNS:web\.shop\.serviceaccount\.identity\.mesh\./,
  );
});

t.test('broken certificates, for those who must refuse them', async (t) => {
  const openssl = requirePeer(t, 'openssl');
  if (openssl === undefined) return;
  const authority = await createAuthority({ trustDomain: 'cluster.local' });
  const broken = async (mistakes: Partial<CertificateOptions>) => {
    const issued = await issueCertificate(authority, { ...ACCOUNT, ...mistakes });
    return { issued, certificate: new X509Certificate(issued.certificatePem), text: textOf(openssl, issued) };
  };

  const nul = await broken({ names: [{ type: 'dns', value: `${DNS}\0.example` }] });
  t.ok(nul.certificate.raw.includes(Buffer.from(`${DNS}\0.example`)), 'a NUL inside a DNS name');

  const two = await broken({ names: [1, 2].map((n) => ({ type: 'url', value: `${URI}${n}` })) });
  t.equal(two.certificate.subjectAltName, `URI:${URI}1, URI:${URI}2`);

  const ca = await broken({ isCa: true });
  // Not X509Certificate.ca, which also asks for the key usage of an authority.
  t.match(ca.text, /Basic Constraints: critical\s+CA:TRUE\n/);
  t.match(ca.text, /Key Usage: critical\s+Digital Signature\n/);

  const bare = await broken({ names: [], keyUsages: [], extendedKeyUsages: [] });
  t.equal(bare.certificate.subjectAltName, undefined);
  t.notMatch(bare.text, /Key Usage/);

  const wrong = await broken({ keyUsages: ['keyAgreement'], extendedKeyUsages: ['clientAuth'] });
  t.match(wrong.text, /Key Usage: critical\s+Key Agreement\n/);
  t.match(wrong.text, /Extended Key Usage: \s+TLS Web Client Authentication\n/);
});

t.test('names that are no identity are refused', async (t) => {
  await t.rejects(createAuthority({ trustDomain: 'Cluster.local' }), { message: /no trust domain/ });
  const authority = await createAuthority({ trustDomain: 'cluster.local' });
  for (const part of [
    { serviceAccount: 'a_b' },
    { namespace: 'Shop' },
    { trustDomain: '' },
    { namespace: '' },
    { namespace: 'a.b' },
  ]) {
    const account = { ...ACCOUNT, ...part };
    await t.rejects(
      issueCertificate(authority, account),
      { message: /is no (DNS name|namespace)/ },
      JSON.stringify(part),
    );
  }
});
