/** Authorities and certificates for tests, made by openssl(1): not by the code under test. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Test } from 'tap';

/** Paths of PEM files. */
export interface TestCertificate {
  readonly cert: string;
  readonly key: string;
}

/** What a certificate is to say; good for a peer of the mesh unless said otherwise. */
export interface TestCertificateOptions {
  /** Names as openssl writes them: `DNS:a.example`, `URI:spiffe://…`. */
  readonly names: readonly string[];
  readonly algorithm?: 'p256' | 'ed25519';
  readonly keyUsage?: string;
  readonly basicConstraints?: string;
}

/** An authority of one test. */
export interface TestAuthority {
  /** Path of its certificate. */
  readonly ca: string;
  issue(options: TestCertificateOptions): TestCertificate;
}

/** Makes an authority in a folder that goes away with the test. */
export function makeAuthority(t: Test, openssl: string): TestAuthority {
  const folder = mkdtempSync(join(tmpdir(), `ferrule-ca-${process.pid}-`));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const ca = join(folder, 'ca.crt');
  const caKey = join(folder, 'ca.key');
  // The system's configuration would add extensions of its own.
  const config = join(folder, 'openssl.cnf');
  writeFileSync(config, '[req]\ndistinguished_name = names\n[names]\n');
  const request = (
    cert: string,
    key: string,
    extensions: readonly string[],
    rest: readonly string[],
  ): void => {
    const added = extensions.flatMap((extension) => ['-addext', extension]);
    const args = [
      'req',
      '-config',
      config,
      '-x509',
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/',
      '-keyout',
      key,
      '-out',
      cert,
    ];
    execFileSync(openssl, [...args, ...added, ...rest], { stdio: 'pipe' });
  };
  const p256 = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
  const authority = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign'];
  // Issuers are found by subject: an empty one would match every other test's authority.
  request(ca, caKey, authority, [...p256, '-subj', `/CN=${basename(folder)}`]);
  let issued = 0;
  return {
    ca,
    issue({ names, algorithm = 'p256', keyUsage = 'digitalSignature', basicConstraints = 'CA:FALSE' }) {
      issued += 1;
      const cert = join(folder, `${issued}.crt`);
      const key = join(folder, `${issued}.key`);
      const extensions = [
        `basicConstraints=critical,${basicConstraints}`,
        `keyUsage=critical,${keyUsage}`,
        'extendedKeyUsage=serverAuth,clientAuth',
        // RFC 5280 section 4.2.1.6: critical where the subject is empty.
        `subjectAltName=critical,${names.join(',')}`,
      ];
      const newKey = algorithm === 'p256' ? p256 : ['-newkey', 'ed25519'];
      request(cert, key, extensions, [...newKey, '-CA', ca, '-CAkey', caKey]);
      return { cert, key };
    },
  };
}
