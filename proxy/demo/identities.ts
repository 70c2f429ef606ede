/**
 * Who the sidecars are: certificates from an authority made for the run. Its keys never leave the memory of the demo, which is
 * why it does not run `ferrule identity`; the files it writes are those that command writes.
 */

import { join } from 'node:path';
import { type Credential, createAuthority, issueCertificate } from '../control/certificates.ts';
import type { Run, User } from './run.ts';
import { identityOf, PODS, type Pod } from './services.ts';

/** What can be changed: new certificates from the root we have, or one step in replacing the root. */
export type Change = 'renew' | 'trustSecondRoot' | 'issueFromSecondRoot' | 'distrustFirstRoot';

/** A sidecar warns of a certificate that ends within the hour; replaced every few seconds, none gets that far. */
const CERTIFICATE_LIFETIME_MS = 2 * 3_600_000;

/**
 * Both outlive every demo. The second root ends first: a sidecar tells when the last of its trust anchors ends, so that this
 * figure changes only when the first root is gone.
 */
const ROOT_LIFETIMES_MS = { first: 3650 * 86_400_000, second: 1825 * 86_400_000 };

/** Where the files of a sidecar's identity are; the names are those of the configuration file. */
export interface IdentityPaths {
  readonly certificate: string;
  readonly key: string;
  readonly trustAnchors: string;
}

/** The authority, and the files of each sidecar. */
export class Identities {
  readonly paths: Readonly<Record<Pod, IdentityPaths>>;
  private readonly run: Run;
  private readonly owner: User;
  private readonly first: Credential;
  private readonly second: Credential;
  private issuer: Credential;
  private anchors: readonly Credential[];

  private constructor(run: Run, owner: User, first: Credential, second: Credential) {
    this.run = run;
    this.owner = owner;
    this.first = first;
    this.second = second;
    this.issuer = first;
    this.anchors = [first];
    const pathsOf = (pod: Pod) => {
      const folder = run.makeFolder(folderOf(pod), owner);
      const [certificate, key, trustAnchors] = ['tls.crt', 'tls.key', 'ca.crt'].map((name) =>
        join(folder, name),
      );
      return { certificate, key, trustAnchors };
    };
    this.paths = { client: pathsOf('client'), server: pathsOf('server') };
  }

  /**
   * Makes the authority and the first certificates.
   * @param user whom the sidecars run as; the demo's own when absent
   */
  static async make(run: Run, user: User | undefined): Promise<Identities> {
    const { trustDomain } = identityOf('server');
    const [first, second] = await Promise.all(
      [ROOT_LIFETIMES_MS.first, ROOT_LIFETIMES_MS.second].map((lifetimeMs) =>
        createAuthority({ trustDomain, lifetimeMs }),
      ),
    );
    const owner = user ?? { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
    const identities = new Identities(run, owner, first, second);
    await identities.apply('renew');
    return identities;
  }

  /** Makes a change and hands new certificates to all sidecars; each looks for itself, within a second or so. */
  async apply(change: Change): Promise<void> {
    if (change === 'trustSecondRoot') this.anchors = [this.first, this.second];
    if (change === 'issueFromSecondRoot') this.issuer = this.second;
    if (change === 'distrustFirstRoot') this.anchors = [this.second];
    for (const pod of PODS) {
      const options = { ...identityOf(pod), lifetimeMs: CERTIFICATE_LIFETIME_MS };
      this.write(pod, await issueCertificate(this.issuer, options));
    }
  }

  /** Trust before use, and the certificate last: a sidecar takes over what fits together. */
  private write(pod: Pod, { certificatePem, keyPem }: Credential): void {
    const anchorsPem = this.anchors.map((root) => root.certificatePem).join('');
    for (const [name, pem] of [
      ['ca.crt', anchorsPem],
      ['tls.key', keyPem],
      ['tls.crt', certificatePem],
    ]) {
      this.run.replaceFile(`${folderOf(pod)}/${name}`, pem, this.owner);
    }
  }
}

function folderOf(pod: Pod): string {
  return `${pod}-identity`;
}
