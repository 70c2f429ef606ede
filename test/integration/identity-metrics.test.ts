/** What a proxy's metrics say of its certificate, from files on disk to the text of a scrape. */
import { X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { makeIdentities } from '../support/identities.ts';
import { startTestProxy } from '../support/proxy.ts';

const EXPIRY = 'control_identity_cert_expiration_timestamp_seconds';
const REFRESHED = 'control_identity_cert_refresh_timestamp_seconds';
const REFRESHES = 'control_identity_cert_refreshes_total';

t.test('the end of the certificate, its refreshes and what could not be used', async (t) => {
  const identities = await makeIdentities(t);
  const web = await identities.make('web', { lifetimeMs: 3_600_000 });
  const endOf = () => new X509Certificate(readFileSync(web.paths.certificate)).validToDate.getTime() / 1000;
  const startedAt = Date.now() / 1000;
  const proxy = await startTestProxy(t, { identity: web.settings });
  const labels = { identity: web.spiffe };
  const first = endOf();
  t.equal(await proxy.sum(EXPIRY, labels), first);
  t.equal(await proxy.sum(REFRESHES, { result: 'ok' }), 1, 'the first one');
  t.equal(await proxy.sum(REFRESHES, { result: 'error' }), 0);
  const taken = await proxy.sum(REFRESHED, labels);
  t.ok(taken >= startedAt && taken <= Date.now() / 1000, `${taken} is between ${startedAt} and now`);

  await web.issue(identities.authority, { lifetimeMs: 7_200_000 });
  await proxy.until(REFRESHES, { result: 'ok' }, (count) => count === 2);
  const second = endOf();
  t.ok(second > first + 3000);
  t.equal(await proxy.sum(EXPIRY, labels), second);
  const takenAgain = await proxy.sum(REFRESHED, labels);
  t.ok(takenAgain > taken && takenAgain <= Date.now() / 1000);

  writeFileSync(web.paths.certificate, 'no certificate');
  await proxy.until(REFRESHES, { result: 'error' }, (count) => count === 1);
  t.equal(await proxy.sum(REFRESHES, { result: 'ok' }), 2);
  t.equal(await proxy.sum(EXPIRY, labels), second, 'the one in use');
  t.equal(await proxy.sum(REFRESHED, labels), takenAgain);

  await web.issue(identities.authority);
  await proxy.until(REFRESHES, { result: 'ok' }, (count) => count === 3);
  t.equal(await proxy.sum(REFRESHES, { result: 'error' }), 1);
});
