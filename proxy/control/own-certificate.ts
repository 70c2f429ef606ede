/** Reads and judges our own certificate, key and trust anchors: what is wrong is found before a peer finds it. */
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { type PeerIdentity, readPeerIdentity, serverNameOf } from '../core/identity.ts';
import type { OwnIdentity } from '../model/messages.ts';
import { type Certificate, readCertificates } from './x509.ts';

/** The three PEM texts. */
export interface IdentityTexts {
  readonly certificate: string;
  readonly key: string;
  readonly trustAnchors: string;
}

/** OIDs of extended key usages with the words of their text (RFC 5280 section 4.2.1.12): a sidecar is both. */
const PURPOSES: readonly (readonly [string, string])[] = [
  ['1.3.6.1.5.5.7.3.1', 'servers (serverAuth)'],
  ['1.3.6.1.5.5.7.3.2', 'clients (clientAuth)'],
];

/** A certificate may begin this much in the future by our clock, in ms: what peers allow too (tls_handshake.cc). */
export const CLOCK_TOLERANCE_MS = 300_000;

/** Real chains have one or two; the limit keeps a file of a hundred cross-signed ones from being searched for ever. */
const MAX_INTERMEDIATES = 4;

/**
 * Checks the texts.
 * @param nowMs milliseconds since 1970
 * @returns what they say
 * @throws Error that says what is wrong with which of them
 */
export function readOwnCertificate(texts: IdentityTexts, version: number, nowMs: number): OwnIdentity {
  const chain = readCertificates(texts.certificate, 'the certificate file');
  const anchors = readCertificates(texts.trustAnchors, 'the trust anchors file');
  const leaf = chain[0];
  const [problem] = workloadProblems(leaf);
  if (problem !== undefined) throw new Error(`the certificate: ${problem}`);
  const key = readKey(leaf, texts.key);
  const names = readPeerIdentity(leaf.names) as PeerIdentity;
  const identity = names.spiffeId ?? names.text;
  const serverName = names.dnsNames[0] ?? serverNameOf(identity);
  if (serverName === undefined) {
    throw new Error(`the certificate has no DNS name, and ${identity} does not imply one`);
  }
  const refusal = timeProblem(leaf, 'the certificate', nowMs) ?? chainProblem(chain, anchors, nowMs);
  if (refusal !== undefined) throw new Error(refusal);
  return {
    version,
    // Written anew: workers read them with another parser, which must not find what this one did not.
    certificatePem: pemOf(chain),
    keyPem: key.export({ type: 'pkcs8', format: 'pem' }) as string,
    trustAnchorsPem: pemOf(anchors),
    identity,
    serverName,
    notBeforeMs: leaf.notBeforeMs,
    notAfterMs: leaf.notAfterMs,
    trustAnchorNotAfterMs: Math.max(...anchors.map((anchor) => anchor.notAfterMs)),
  };
}

/** What keeps a certificate from being a workload's, whoever issued it and when; empty when nothing does. */
export function workloadProblems(certificate: Certificate): string[] {
  const { isCa, keyKind, keyUsages, extendedKeyUsages, names } = certificate;
  const identity = readPeerIdentity(names);
  const problems = typeof identity === 'string' ? [identity] : [];
  if (isCa) {
    problems.push('it says that it is an authority (basic constraints), which a workload must not be');
  }
  if (keyKind !== 'ECDSA P-256' && keyKind !== 'Ed25519') {
    problems.push(`its key is ${keyKind}; it must be ECDSA P-256 or Ed25519`);
  }
  if (keyUsages?.includes('digitalSignature') === false) {
    problems.push('its key usage lacks digitalSignature, which TLS 1.3 needs');
  }
  for (const [oid, users] of PURPOSES) {
    if (extendedKeyUsages?.includes(oid) === false) {
      problems.push(`its extended key usage leaves out ${users}; a sidecar is both`);
    }
  }
  return problems;
}

function readKey(leaf: Certificate, text: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(text);
  } catch (cause) {
    throw new Error('the key file holds no private key (PEM, not encrypted)', { cause });
  }
  if (!leaf.x509.checkPrivateKey(key)) throw new Error('the key is not that of the certificate');
  return key;
}

function pemOf(certificates: readonly Certificate[]): string {
  return certificates.map(({ x509 }) => x509.toString()).join('');
}

function timeProblem(
  { notBeforeMs, notAfterMs }: Certificate,
  what: string,
  nowMs: number,
): string | undefined {
  const clock = `our clock says ${new Date(nowMs).toISOString()}`;
  if (notAfterMs <= nowMs) return `${what} expired at ${new Date(notAfterMs).toISOString()}; ${clock}`;
  if (notBeforeMs > nowMs + CLOCK_TOLERANCE_MS) {
    return `${what} is not valid before ${new Date(notBeforeMs).toISOString()}; ${clock}`;
  }
  return undefined;
}

/**
 * Follows the issuers from the first of `chain` to an anchor, on every way there is: during a roll-over several
 * certificates of one issuer, with one key, may be around, and some of them expired.
 * @returns why no way ends well; undefined when one does
 */
export function chainProblem(
  chain: readonly Certificate[],
  anchors: readonly Certificate[],
  nowMs: number,
): string | undefined {
  return problemFrom(chain[0], 0, chain, anchors, nowMs);
}

/** @param below how many authorities there are between the workload and `current`, itself included */
function problemFrom(
  current: Certificate,
  below: number,
  chain: readonly Certificate[],
  anchors: readonly Certificate[],
  nowMs: number,
): string | undefined {
  let problem: string | undefined;
  for (const anchor of anchors.filter((candidate) => issued(candidate, current))) {
    const found = authorityProblem(anchor, 'the trust anchor of the certificate', below, nowMs);
    if (found === undefined) return undefined;
    problem ??= found;
  }
  const issuers = chain.filter((candidate) => candidate !== current && issued(candidate, current));
  for (const issuer of below < MAX_INTERMEDIATES ? issuers : []) {
    const own = authorityProblem(issuer, 'an intermediate certificate', below, nowMs);
    const found = own ?? problemFrom(issuer, below + 1, chain, anchors, nowMs);
    if (found === undefined) return undefined;
    problem ??= found;
  }
  return (
    problem ?? `the certificate does not lead to a trust anchor: nobody trusted issued ${nameOf(current)}`
  );
}

function issued(issuer: Certificate, certificate: Certificate): boolean {
  return certificate.x509.checkIssued(issuer.x509) && certificate.x509.verify(issuer.x509.publicKey);
}

function authorityProblem(
  authority: Certificate,
  what: string,
  below: number,
  nowMs: number,
): string | undefined {
  if (!authority.isCa) return `${what} is not that of an authority (${nameOf(authority)})`;
  if (authority.pathLength !== undefined && below > authority.pathLength) {
    return `${what} allows ${authority.pathLength} authorities below it, and there are ${below} (${nameOf(authority)})`;
  }
  return timeProblem(authority, what, nowMs);
}

/** Workloads have no subject; their names tell which they are. */
function nameOf({ x509 }: Certificate): string {
  return (x509.subject || x509.subjectAltName || 'a certificate without any name').replaceAll('\n', ', ');
}
