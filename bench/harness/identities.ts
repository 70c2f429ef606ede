/** Authorities and certificates for one run, made by the `openssl` program. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runProgram } from './job.ts';
import { needProgram } from './machine.ts';
import type { Identities, Identity } from './model.ts';

/** A key takes a millisecond. */
const OPENSSL_TIMEOUT_MS = 10_000;
/** Beyond any run, also one that begins before midnight. */
const DAYS = '2';
const TRUST_DOMAIN = 'bench.test';
const NAMESPACE = 'bench';

/** Nothing of the system's own configuration, which adds extensions. */
const CONFIGURATION = '[req]\ndistinguished_name = dn\n[dn]\n';

const AUTHORITY = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,cRLSign'];
const LEAF = [
  'basicConstraints=critical,CA:FALSE',
  'keyUsage=critical,digitalSignature',
  'extendedKeyUsage=serverAuth,clientAuth',
];

/** Makes everybody's keys and certificates; `folder` keeps the files. */
export async function makeIdentities(folder: string): Promise<Identities> {
  mkdirSync(folder, { mode: 0o700 });
  writeFileSync(join(folder, 'openssl.cnf'), CONFIGURATION);
  await makeAuthority(folder, 'trusted');
  await makeAuthority(folder, 'untrusted');
  return {
    client: await issue(folder, 'trusted', 'client', 'client'),
    server: await issue(folder, 'trusted', 'server', 'server'),
    stranger: await issue(folder, 'trusted', 'stranger', 'stranger'),
    impostor: await issue(folder, 'untrusted', 'impostor', 'server'),
  };
}

async function makeAuthority(folder: string, name: string): Promise<void> {
  await makeCertificate(folder, name, `/CN=bench ${name}`, AUTHORITY, []);
}

/** Issues `file` to the service account `account`. */
async function issue(folder: string, authority: string, file: string, account: string): Promise<Identity> {
  const dns = `${account}.${NAMESPACE}.serviceaccount.identity.linkerd.${TRUST_DOMAIN}`;
  const spiffe = `spiffe://${TRUST_DOMAIN}/ns/${NAMESPACE}/sa/${account}`;
  const issuer = ['-CA', join(folder, `${authority}.crt`), '-CAkey', join(folder, `${authority}.key`)];
  const names = `subjectAltName=critical,DNS:${dns},URI:${spiffe}`;
  await makeCertificate(folder, file, '/', [...LEAF, names], issuer);
  const read = (name: string) => readFileSync(join(folder, name), 'utf8');
  return {
    dns,
    spiffe,
    certificate: read(`${file}.crt`),
    key: read(`${file}.key`),
    trustAnchors: read('trusted.crt'),
  };
}

async function makeCertificate(
  folder: string,
  file: string,
  subject: string,
  extensions: readonly string[],
  issuer: readonly string[],
): Promise<void> {
  const args = ['req', '-x509', '-config', join(folder, 'openssl.cnf'), '-days', DAYS, '-subj', subject];
  args.push('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-noenc');
  args.push('-keyout', join(folder, `${file}.key`), '-out', join(folder, `${file}.crt`), ...issuer);
  args.push(...extensions.flatMap((extension) => ['-addext', extension]));
  await runProgram(needProgram('openssl'), args, OPENSSL_TIMEOUT_MS);
}
