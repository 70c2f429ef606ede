/** The three files of an identity, replaced as people and tools do, and who follows them. */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import {
  type CertificateOptions,
  type Credential,
  createAuthority,
  issueCertificate,
} from '../../proxy/control/certificates.ts';
import { IdentityFiles } from '../../proxy/control/identity-files.ts';
import { log } from '../../proxy/core/log.ts';
import type { OwnIdentity } from '../../proxy/model/messages.ts';

/** Generous: a loaded machine must not fail the test, and a right one never waits for it. */
const DEADLINE_MS = 20_000;
/** Between two looks at the files, in ms: short, so that the tests are. */
const LOOK_MS = 20;
export const MINUTE_MS = 60_000;
export const HOUR_MS = 60 * MINUTE_MS;

const WEB = { serviceAccount: 'web', namespace: 'shop', trustDomain: 'cluster.local' } as const;
/** What was logged. */
export const lines: string[] = [];
log.sink = (line) => void lines.push(line);

/** Whom the files trust, and whom they do not. */
export const root = await createAuthority({ trustDomain: 'cluster.local' });
export const stranger = await createAuthority({ trustDomain: 'cluster.local' });

/** A certificate of the workload `web`. */
export function issue(options: Partial<CertificateOptions> = {}, authority = root): Promise<Credential> {
  return issueCertificate(authority, { ...WEB, ...options });
}

/** Waits for a condition. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS;
  while (!condition()) {
    if (Date.now() > deadline)
      throw new Error(`not within ${DEADLINE_MS} ms: ${what}; log:\n${lines.join('')}`);
    await delay(5);
  }
}

/** Three files of a test and the identities they gave. */
export class Rig {
  readonly handed: OwnIdentity[] = [];
  readonly files: IdentityFiles;
  readonly dir: string;
  private looks = 0;

  constructor(t: Test, dir: string) {
    this.dir = dir;
    const look = () => void this.looks++;
    const paths = {
      // Asked for at every look: the way to know that time passed for the files' follower too.
      get certificate() {
        look();
        return join(dir, 'tls.crt');
      },
      key: join(dir, 'tls.key'),
      trustAnchors: join(dir, 'ca.crt'),
    };
    this.files = new IdentityFiles(paths, (identity) => void this.handed.push(identity), LOOK_MS);
    t.teardown(() => this.files.close());
  }

  /** Log lines that name this test's folder, or say `text` after it. */
  said(text: string): number {
    return lines.filter((line) => line.includes(this.dir) && line.includes(text)).length;
  }

  /** Resolves when the files were looked at ten more times. */
  async looked(): Promise<void> {
    const enough = this.looks + 10;
    await until('ten more looks', () => this.looks >= enough);
  }

  /** The newest certificate handed out. */
  get newest(): string | undefined {
    return this.handed.at(-1)?.certificatePem;
  }
}

/** Replaces a file as careful tools do. */
export function put(dir: string, name: string, text: string): void {
  writeFileSync(join(dir, `.${name}.new`), text);
  renameSync(join(dir, `.${name}.new`), join(dir, name));
}

/** Replaces all three, the certificate last. */
export function putAll(
  dir: string,
  { certificatePem, keyPem }: Credential,
  anchors = root.certificatePem,
): void {
  put(dir, 'ca.crt', anchors);
  put(dir, 'tls.key', keyPem);
  put(dir, 'tls.crt', certificatePem);
}

/** A started rig on good files. */
export async function started(t: Test, credential?: Credential): Promise<Rig> {
  // Not t.testdir, which empties itself when it is called again: several rigs of one test must not meet.
  const dir = mkdtempSync(join(tmpdir(), 'ferrule-identity-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  putAll(dir, credential ?? (await issue()));
  const rig = new Rig(t, dir);
  await rig.files.start();
  return rig;
}
