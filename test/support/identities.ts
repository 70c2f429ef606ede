/** Identities for proxies under test: an authority, and folders with certificate, key and trust anchors as a proxy reads them. */
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import {
  type CertificateOptions,
  type Credential,
  createAuthority,
  issueCertificate,
} from '../../proxy/control/certificates.ts';
import { type Account, dnsForm, spiffeForm } from '../../proxy/core/identity.ts';

/** What a certificate says beside the account. */
export type Variation = Partial<Omit<CertificateOptions, 'serviceAccount'>>;

/** The files of one workload. */
export class TestIdentity {
  readonly spiffe: string;
  readonly serverName: string;
  /** For the configuration and for other programs. */
  readonly paths: { readonly certificate: string; readonly key: string; readonly trustAnchors: string };
  private readonly account: Account;

  constructor(folder: string, account: Account) {
    this.account = account;
    this.spiffe = spiffeForm(account);
    this.serverName = dnsForm(account);
    this.paths = {
      certificate: join(folder, 'tls.crt'),
      key: join(folder, 'tls.key'),
      trustAnchors: join(folder, 'ca.crt'),
    };
  }

  /** `identity` of a proxy's configuration. */
  get settings(): object {
    return { source: 'files', ...this.paths };
  }

  /** Writes a new certificate and key, one after the other as tools do. */
  async issue(authority: Credential, variation: Variation = {}): Promise<void> {
    const { certificatePem, keyPem } = await issueCertificate(authority, { ...this.account, ...variation });
    replace(this.paths.key, keyPem);
    replace(this.paths.certificate, certificatePem);
  }

  trust(...authorities: readonly Credential[]): void {
    replace(this.paths.trustAnchors, authorities.map(({ certificatePem }) => certificatePem).join(''));
  }
}

/** The identities of one test. */
export class TestIdentities {
  readonly authority: Credential;
  private readonly folder: string;
  private made = 0;

  constructor(folder: string, authority: Credential) {
    this.folder = folder;
    this.authority = authority;
  }

  /** The files of a service account of namespace `default`, signed by `by`. */
  async make(serviceAccount: string, variation: Variation = {}, by = this.authority): Promise<TestIdentity> {
    const folder = join(this.folder, `${serviceAccount}-${this.made++}`);
    mkdirSync(folder);
    const account = { serviceAccount, namespace: 'default', trustDomain: 'cluster.local' };
    const identity = new TestIdentity(folder, account);
    identity.trust(this.authority);
    await identity.issue(by, variation);
    return identity;
  }
}

/** Makes an authority whose files go with the test. */
export async function makeIdentities(t: Test): Promise<TestIdentities> {
  const folder = mkdtempSync(join(tmpdir(), `ferrule-identities-${process.pid}-`));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return new TestIdentities(folder, await newAuthority());
}

/** An authority of its own, for whom nobody trusts yet. */
export function newAuthority(): Promise<Credential> {
  return createAuthority({ trustDomain: 'cluster.local' });
}

function replace(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
