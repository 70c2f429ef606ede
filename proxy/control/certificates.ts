/**
 * Makes certificates: authorities for development and tests, and the workload certificates they sign. The library that
 * encodes them costs 23 MB, so it is loaded only when something is made.
 */
import { createPrivateKey, generateKeyPair, type KeyObject, webcrypto, X509Certificate } from 'node:crypto';
import { promisify } from 'node:util';
import type * as X509Library from '@peculiar/x509';
import { UserError } from '../core/errors.ts';
import { type Account, dnsForm, isDnsName, isSpiffeId, spiffeForm } from '../core/identity.ts';
import { splitCertificates } from './x509.ts';

/** ECDSA over P-256, or Ed25519: what our handshakes accept in workload certificates. */
export type KeyKind = 'p256' | 'ed25519';

/** A certificate and its key, in PEM. */
export interface Credential {
  /** The certificate first, then the intermediates that lead to its root, without the root. */
  readonly certificatePem: string;
  /** PKCS #8, not encrypted. */
  readonly keyPem: string;
}

/** The validity of a certificate. */
export interface Validity {
  /** From `nowMs`; the certificate starts `BACKDATE_MS` earlier. */
  readonly lifetimeMs?: number;
  /** Milliseconds since the epoch, the clock unless given. */
  readonly nowMs?: number;
  /** Replaces the backdated start; milliseconds since the epoch. */
  readonly notBeforeMs?: number;
}

/** What an authority is made from. */
export interface AuthorityOptions extends Validity {
  readonly trustDomain: string;
  readonly key?: KeyKind;
  /** Signs the new authority, which is an intermediate then; its certificate is self-signed otherwise. */
  readonly issuer?: Credential;
}

/** A name of a certificate as it is encoded, with no check: any text goes, also what nobody may accept. */
export interface WrittenName {
  readonly type: 'dns' | 'url' | 'email';
  readonly value: string;
}

/** Purposes of a key, RFC 5280 section 4.2.1.3. */
export type KeyUsage = 'digitalSignature' | 'keyEncipherment' | 'keyAgreement' | 'keyCertSign' | 'cRLSign';

/** What a workload's certificate is made from. */
export interface CertificateOptions extends Account, Validity {
  readonly key?: KeyKind;
  /** The label Linkerd fills with the namespace of its control plane; `linkerd` unless given. */
  readonly mesh?: string;
  /** Instead of the DNS name and the SPIFFE ID of the account; needed to make certificates that must be refused. */
  readonly names?: readonly WrittenName[];
  /** Instead of digitalSignature; none leaves the extension out. */
  readonly keyUsages?: readonly KeyUsage[];
  /** Instead of both; none leaves the extension out. */
  readonly extendedKeyUsages?: readonly ('serverAuth' | 'clientAuth')[];
  /** True writes CA:TRUE, which a workload's certificate must not have. */
  readonly isCa?: boolean;
}

/** How far a certificate starts in the past, so that peers whose clocks are behind accept it at once. */
export const BACKDATE_MS = 5 * 60_000;
/** Ten years: replacing a development root means touching every workload. */
export const AUTHORITY_LIFETIME_MS = 3650 * 24 * 3_600_000;
/** A day: a stolen key is of little use, and renewing late at night can wait for the morning. */
export const LEAF_LIFETIME_MS = 24 * 3_600_000;

const EXTENDED_KEY_USAGES = { serverAuth: '1.3.6.1.5.5.7.3.1', clientAuth: '1.3.6.1.5.5.7.3.2' } as const;

const generate = promisify(generateKeyPair);

/**
 * Makes a certificate authority with a key of its own. It names its trust domain (`spiffe://<trust domain>`).
 * @throws UserError for a trust domain that is no DNS name
 */
export async function createAuthority(options: AuthorityOptions): Promise<Credential> {
  const { trustDomain, issuer, key = 'p256', lifetimeMs = AUTHORITY_LIFETIME_MS } = options;
  if (!isDnsName(trustDomain)) {
    throw new UserError(
      `${JSON.stringify(trustDomain)} is no trust domain: it must be a DNS name in lower case`,
    );
  }
  const x509 = await library();
  const keys = await generateKeys(key);
  // Two roots during a roll-over must not have one name: whoever looks up by name would find the wrong one.
  const unique = Buffer.from(webcrypto.getRandomValues(new Uint8Array(4))).toString('hex');
  const name = `CN=Ferrule ${issuer === undefined ? 'root' : 'intermediate'} ${unique}`;
  return sign(x509, keys, name, issuer, validity({ ...options, lifetimeMs }, issuer), [
    new x509.BasicConstraintsExtension(true, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    new x509.SubjectAlternativeNameExtension([{ type: 'url', value: `spiffe://${trustDomain}` }]),
  ]);
}

/**
 * Makes a key and a certificate for a workload, for TLS in both roles. It never outlives its authority.
 * @throws UserError when the account cannot be written as a DNS name and a SPIFFE ID
 */
export async function issueCertificate(
  authority: Credential,
  options: CertificateOptions,
): Promise<Credential> {
  const { key = 'p256', lifetimeMs = LEAF_LIFETIME_MS, isCa = false } = options;
  const { keyUsages = ['digitalSignature'], extendedKeyUsages = ['serverAuth', 'clientAuth'] } = options;
  const names = options.names ?? accountNames(options, options.mesh);
  const x509 = await library();
  const keys = await generateKeys(key);
  const extensions: X509Library.Extension[] = [new x509.BasicConstraintsExtension(isCa, undefined, true)];
  if (keyUsages.length > 0) {
    const flags = keyUsages.reduce((all, usage) => all | x509.KeyUsageFlags[usage], 0);
    extensions.push(new x509.KeyUsagesExtension(flags, true));
  }
  if (extendedKeyUsages.length > 0) {
    const purposes = extendedKeyUsages.map((usage) => EXTENDED_KEY_USAGES[usage]);
    extensions.push(new x509.ExtendedKeyUsageExtension(purposes));
  }
  // Critical, because the subject is empty (RFC 5280 section 4.2.1.6): a DNS name may be too long for one.
  if (names.length > 0) extensions.push(new x509.SubjectAlternativeNameExtension([...names], true));
  return sign(x509, keys, '', authority, validity({ ...options, lifetimeMs }, authority), extensions);
}

/** The names of a workload, in the order Linkerd and Ferrule expect. */
function accountNames(account: Account, mesh: string | undefined): WrittenName[] {
  const dns = dnsForm(account, mesh);
  const spiffe = spiffeForm(account);
  if (!isDnsName(dns)) {
    throw new UserError(
      `${dns} is no DNS name: names are lower-case letters, digits and inner hyphens, at most 63 each and 253 in all`,
    );
  }
  if (!isSpiffeId(spiffe)) throw new UserError(`${spiffe} is no SPIFFE ID`);
  // With a dot the DNS name would be that of an account in another namespace.
  if (account.namespace.includes('.')) {
    throw new UserError(`${JSON.stringify(account.namespace)} is no namespace: it has a dot`);
  }
  return [
    { type: 'dns', value: dns },
    { type: 'url', value: spiffe },
  ];
}

function validity(options: Validity & { lifetimeMs: number }, issuer: Credential | undefined) {
  const { lifetimeMs, nowMs = Date.now(), notBeforeMs = nowMs - BACKDATE_MS } = options;
  const end =
    issuer === undefined ? Infinity : new X509Certificate(issuer.certificatePem).validToDate.getTime();
  return { notBefore: wholeSeconds(notBeforeMs), notAfter: wholeSeconds(Math.min(nowMs + lifetimeMs, end)) };
}

/** X.509 has no fractions (RFC 5280 section 4.1.2.5). */
function wholeSeconds(ms: number): Date {
  return new Date(Math.floor(ms / 1000) * 1000);
}

interface Keys {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

async function generateKeys(kind: KeyKind): Promise<Keys> {
  return kind === 'p256' ? generate('ec', { namedCurve: 'P-256' }) : generate('ed25519');
}

async function sign(
  x509: typeof X509Library,
  { publicKey, privateKey }: Keys,
  subject: string,
  issuer: Credential | undefined,
  validity: { readonly notBefore: Date; readonly notAfter: Date },
  extensions: readonly X509Library.Extension[],
): Promise<Credential> {
  const issuerCertificate = issuer && new x509.X509Certificate(issuer.certificatePem);
  const issuerKey = issuer === undefined ? privateKey : createPrivateKey(issuer.keyPem);
  const usableKey = publicKey.toCryptoKey(algorithmOf(publicKey), true, ['verify']);
  const keyId = await x509.SubjectKeyIdentifierExtension.create(usableKey);
  const issuerKeyId =
    issuerCertificate?.getExtension(x509.SubjectKeyIdentifierExtension)?.keyId ?? keyId.keyId;
  const certificate = await x509.X509CertificateGenerator.create({
    subject,
    issuer: issuerCertificate?.subjectName ?? subject,
    ...validity,
    publicKey: usableKey,
    signingKey: issuerKey.toCryptoKey(algorithmOf(issuerKey), true, ['sign']),
    signingAlgorithm: { ...algorithmOf(issuerKey), hash: 'SHA-256' },
    extensions: [...extensions, keyId, new x509.AuthorityKeyIdentifierExtension(issuerKeyId)],
  });
  const chain = issuer === undefined ? [] : splitCertificates(issuer.certificatePem).filter(isIntermediate);
  return {
    certificatePem: [`${certificate.toString('pem')}\n`, ...chain].join(''),
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

/** @throws UserError for a key of another kind */
function algorithmOf(key: KeyObject) {
  if (key.asymmetricKeyType === 'ed25519') return { name: 'Ed25519' };
  const curve = key.asymmetricKeyDetails?.namedCurve;
  if (curve === 'prime256v1') return { name: 'ECDSA', namedCurve: 'P-256' };
  const kind = [key.asymmetricKeyType, curve].filter((part) => part !== undefined).join(' ');
  throw new UserError(`the authority has a key of kind ${kind}; it must be ECDSA P-256 or Ed25519`);
}

/** A root need not be sent: peers have it, or refuse it. */
function isIntermediate(pem: string): boolean {
  const certificate = new X509Certificate(pem);
  return !certificate.checkIssued(certificate);
}

async function library(): Promise<typeof X509Library> {
  // The library asks for it, and nothing else of ours does.
  await import('reflect-metadata');
  return import('@peculiar/x509');
}
