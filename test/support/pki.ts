/** Authorities and certificates for tests of mutual TLS, good ones and such as must be refused. */
import {
  type CertificateOptions,
  type Credential,
  createAuthority,
  issueCertificate,
  type KeyKind,
} from '../../proxy/control/certificates.ts';

/** Names of the certificates of `TestPki.issue`, unless told otherwise. */
export const TEST_DOMAIN = 'cluster.local';

const HOUR_MS = 3_600_000;

/** The DNS name of the workload `account` in the namespace `test`: what a client asks for. */
export function serverNameOf(account: string): string {
  return `${account}.test.serviceaccount.identity.linkerd.${TEST_DOMAIN}`;
}

/** The SPIFFE ID of the same workload. */
export function spiffeIdOf(account: string): string {
  return `spiffe://${TEST_DOMAIN}/ns/test/sa/${account}`;
}

/** A root, and what it signs. */
export class TestPki {
  readonly root: Credential;

  private constructor(root: Credential) {
    this.root = root;
  }

  static async create(key: KeyKind = 'p256'): Promise<TestPki> {
    return new TestPki(await createAuthority({ trustDomain: TEST_DOMAIN, key }));
  }

  /** PEM of the root: what peers trust. */
  get anchors(): string {
    return this.root.certificatePem;
  }

  /** The certificate of `account` in the namespace `test`, good unless `changes` spoil it. */
  issue(account: string, changes: Partial<CertificateOptions> = {}): Promise<Credential> {
    const options = { serviceAccount: account, namespace: 'test', trustDomain: TEST_DOMAIN, ...changes };
    return issueCertificate(this.root, options);
  }

  /** The same, signed by an intermediate that comes with it. */
  async issueByIntermediate(account: string): Promise<Credential> {
    const intermediate = await createAuthority({ trustDomain: TEST_DOMAIN, issuer: this.root });
    const options = { serviceAccount: account, namespace: 'test', trustDomain: TEST_DOMAIN };
    return issueCertificate(intermediate, options);
  }

  /** Over since `secondsAgo`. */
  expired(account: string, secondsAgo = 60): Promise<Credential> {
    const end = Date.now() - secondsAgo * 1000;
    return this.issue(account, { nowMs: end - HOUR_MS, lifetimeMs: HOUR_MS });
  }

  /** Begins `seconds` from now. */
  notYetValid(account: string, seconds: number): Promise<Credential> {
    return this.issue(account, { notBeforeMs: Date.now() + seconds * 1000, lifetimeMs: 24 * HOUR_MS });
  }

  /** What peers must refuse because of its names or flags alone; its chain is good. */
  async spoiled(kind: SpoiledKind): Promise<Credential> {
    const dns = { type: 'dns', value: serverNameOf('spoiled') } as const;
    const uri = { type: 'url', value: spiffeIdOf('spoiled') } as const;
    switch (kind) {
      case 'authority':
        return this.issue('spoiled', { isCa: true });
      case 'no-signature':
        return this.issue('spoiled', { keyUsages: ['keyAgreement'] });
      case 'two-uris':
        return this.issue('spoiled', { names: [dns, uri, { type: 'url', value: spiffeIdOf('other') }] });
      case 'nul':
        return this.issue('spoiled', { names: [dns, { type: 'url', value: `${uri.value}\0.evil` }] });
      case 'no-names':
        return this.issue('spoiled', { names: [] });
    }
  }
}

/** Ways in which a certificate with a good chain is spoiled. */
export type SpoiledKind = 'authority' | 'no-signature' | 'two-uris' | 'nul' | 'no-names';
