/** The way from our certificate to a trust anchor, and its end, which may come before that of the certificate. */
import 'reflect-metadata';
import { createPrivateKey } from 'node:crypto';
import { X509Certificate, X509CertificateGenerator } from '@peculiar/x509';
import t from 'tap';
import { type Credential, createAuthority } from '../../proxy/control/certificates.ts';
import { HOUR_MS, issue, MINUTE_MS, putAll, Rig, root, started, until } from '../support/identity-rig.ts';

/** The certificate of an authority with other times, for the same name and key; signed by itself unless `issuer` is given. */
async function renew(
  authority: Credential,
  {
    notBeforeMs,
    notAfterMs,
    issuer = authority,
  }: { notBeforeMs?: number; notAfterMs: number; issuer?: Credential },
): Promise<Credential> {
  const old = new X509Certificate(authority.certificatePem);
  const signer = createPrivateKey(issuer.keyPem);
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256' };
  const certificate = await X509CertificateGenerator.create({
    subject: old.subject,
    issuer: old.issuer,
    notBefore: notBeforeMs === undefined ? old.notBefore : new Date(notBeforeMs),
    notAfter: new Date(notAfterMs),
    publicKey: old.publicKey,
    signingKey: signer.toCryptoKey(algorithm, true, ['sign']),
    signingAlgorithm: { ...algorithm, hash: 'SHA-256' },
    extensions: old.extensions,
  });
  return { ...authority, certificatePem: `${certificate.toString('pem')}\n` };
}

t.test('through an intermediate, and not without it', async (t) => {
  const middle = await createAuthority({ trustDomain: 'cluster.local', issuer: root });
  const credential = await issue({}, middle);
  const rig = await started(t, credential);
  t.equal(rig.handed.length, 1);
  const [leaf] = credential.certificatePem.split(/(?<=-----END CERTIFICATE-----\n)/);
  t.not(leaf, credential.certificatePem);
  const lacking = await started(t, { ...credential, certificatePem: leaf });
  t.match(lacking.files.unready(), /does not lead to a trust anchor: nobody trusted issued .*web/);
});

t.test('an expired anchor beside its renewal with the same key and name', async (t) => {
  const expired = await renew(root, { notAfterMs: Date.now() - MINUTE_MS });
  const [one, other] = [expired.certificatePem, root.certificatePem];
  const dir = t.testdir({});
  const credential = await issue();
  for (const anchors of [one + other, other + one]) {
    putAll(dir, credential, anchors);
    const rig = new Rig(t, dir);
    await rig.files.start();
    t.equal(rig.files.unready(), undefined, 'the valid one counts');
  }
  putAll(dir, credential, one);
  const rig = new Rig(t, dir);
  await rig.files.start();
  t.match(rig.files.unready(), /the trust anchor of the certificate expired at .*; our clock says /);
});

t.test('a trust anchor that ends before the certificate', async (t) => {
  const dir = t.testdir({});
  const endMs = Math.ceil(Date.now() / 1000 + 2) * 1000;
  putAll(dir, await issue(), (await renew(root, { notAfterMs: endMs })).certificatePem);
  const rig = new Rig(t, dir);
  await rig.files.start();
  t.equal(rig.files.unready(endMs - 1), undefined);
  t.match(
    rig.files.unready(endMs),
    /^identity: the trust anchor of the certificate expired at .*Z, 0 s ago; our clock/,
  );
  await until('it has ended', () => rig.said('identity: the trust anchor of the certificate expired') > 0);
  t.match(rig.files.unready(), /the trust anchor of the certificate expired/);
  await rig.looked();
  t.equal(rig.said('the trust anchor of the certificate expired'), 1, 'told of once');
  t.equal(rig.files.failures, 0, 'nobody changed the files');
  t.ok(rig.handed[0].notAfterMs > endMs + HOUR_MS, 'the certificate ends when it ends');
  putAll(dir, await issue());
  await until('renewed', () => rig.files.unready() === undefined);
});

t.test('an intermediate that ends before the certificate, alone and beside its renewal', async (t) => {
  const middle = await createAuthority({ trustDomain: 'cluster.local', issuer: root });
  const { certificatePem, keyPem } = await issue({}, middle);
  const endMs = Math.floor(Date.now() / 1000 + 60) * 1000;
  const short = await renew(middle, { notAfterMs: endMs, issuer: root });
  const leaf = certificatePem.replace(middle.certificatePem, '');
  const alone = await started(t, { keyPem, certificatePem: leaf + short.certificatePem });
  t.equal(alone.files.unready(endMs - 1), undefined);
  t.match(alone.files.unready(endMs), /an intermediate certificate expired at .*Z, 0 s ago; our clock says/);
  const [one, other] = [short.certificatePem, middle.certificatePem];
  for (const both of [one + other, other + one]) {
    const rig = await started(t, { keyPem, certificatePem: leaf + both });
    t.equal(rig.files.unready(endMs), undefined, 'the way that lasts longest counts');
    t.match(rig.files.unready(endMs + 25 * HOUR_MS), /identity: the certificate expired at/);
  }
});

t.test('a way to a trust anchor that becomes valid in time', async (t) => {
  const middle = await createAuthority({ trustDomain: 'cluster.local', issuer: root });
  const { certificatePem, keyPem } = await issue({}, middle);
  const endMs = Math.floor(Date.now() / 1000 + 30) * 1000;
  const short = await renew(middle, { notAfterMs: endMs, issuer: root });
  // Five minutes ahead are let pass, so this one can be used in about three seconds.
  const notBeforeMs = Math.ceil((Date.now() + 5 * MINUTE_MS + 2_500) / 1000) * 1000;
  const next = await renew(middle, { notBeforeMs, notAfterMs: endMs + HOUR_MS, issuer: root });
  const leaf = certificatePem.replace(middle.certificatePem, '');
  const rig = await started(t, { keyPem, certificatePem: leaf + short.certificatePem + next.certificatePem });
  t.match(rig.files.unready(endMs + 1), /an intermediate certificate expired/);
  await until('the next one has begun', () => rig.files.unready(endMs + 1) === undefined);
  t.equal(rig.handed.length, 1, 'the same identity');
});

t.test('who is no authority cannot have issued', async (t) => {
  const leaf = await issue({ keyUsages: [] });
  const rig = await started(t, await issue({}, leaf));
  t.match(rig.files.unready(), /an intermediate certificate is not that of an authority/);
});
