/** Reads and judges our own certificate, key and trust anchors: what is wrong is found before a peer finds it. */
import { type PeerIdentity, readPeerIdentity, serverNameOf } from '../core/identity.ts';
import type { OwnIdentity } from '../model/messages.ts';
import { timeProblem } from './validity.ts';
import { type Certificate, readCertificates, readPrivateKey } from './x509.ts';

/** The three PEM texts. */
export interface IdentityTexts {
  readonly certificate: string;
  readonly key: string;
  readonly trustAnchors: string;
}

/** What of a chain ends first: until then the chain holds. */
export interface ChainEnd {
  /** Which of them it is, as a sentence begins. */
  readonly what: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** A certificate of ours that can be used now. */
export interface OwnCertificate {
  readonly identity: OwnIdentity;
  /** The certificate first; these and the anchors can be judged again, and may have another end later. */
  readonly chain: readonly [Certificate, ...Certificate[]];
  readonly anchors: readonly Certificate[];
  readonly end: ChainEnd;
}

/** OIDs of extended key usages with the words of their text (RFC 5280 section 4.2.1.12): a sidecar is both. */
const PURPOSES: readonly (readonly [string, string])[] = [
  ['1.3.6.1.5.5.7.3.1', 'servers (serverAuth)'],
  ['1.3.6.1.5.5.7.3.2', 'clients (clientAuth)'],
];

/** Real chains have one or two; the limit keeps a file of a hundred cross-signed ones from being searched for ever. */
const MAX_INTERMEDIATES = 4;

/**
 * Checks the texts.
 * @param nowMs milliseconds since 1970
 * @returns what they say
 * @throws Error that says what is wrong with which of them
 */
export function readOwnCertificate(texts: IdentityTexts, version: number, nowMs: number): OwnCertificate {
  const chain = readCertificates(texts.certificate, 'the certificate file');
  const anchors = readCertificates(texts.trustAnchors, 'the trust anchors file');
  const leaf = chain[0];
  const [problem] = workloadProblems(leaf);
  if (problem !== undefined) throw new Error(`the certificate: ${problem}`);
  const key = readPrivateKey(texts.key, 'the key file');
  if (!leaf.x509.checkPrivateKey(key)) throw new Error('the key is not that of the certificate');
  const names = readPeerIdentity(leaf.names) as PeerIdentity;
  const name = names.spiffeId ?? names.text;
  const serverName = names.dnsNames[0] ?? serverNameOf(name);
  if (serverName === undefined) {
    throw new Error(`the certificate has no DNS name, and ${name} does not imply one`);
  }
  const end = timeProblem(leaf, 'the certificate', nowMs) ?? judgeChain(chain, anchors, nowMs);
  if (typeof end === 'string') throw new Error(end);
  const identity: OwnIdentity = {
    version,
    // Written anew: workers read them with another parser, which must not find what this one did not.
    certificatePem: pemOf(chain),
    keyPem: key.export({ type: 'pkcs8', format: 'pem' }) as string,
    trustAnchorsPem: pemOf(anchors),
    identity: name,
    serverName,
    notBeforeMs: leaf.notBeforeMs,
    notAfterMs: leaf.notAfterMs,
    trustAnchorNotAfterMs: Math.max(...anchors.map((anchor) => anchor.notAfterMs)),
  };
  return { identity, chain, anchors, end };
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

function pemOf(certificates: readonly Certificate[]): string {
  return certificates.map(({ x509 }) => x509.toString()).join('');
}

/**
 * Follows the issuers from the first of `chain` to an anchor, on every way there is: during a roll-over several
 * certificates of one issuer, with one key, may be around, and some of them expired.
 * @returns the first end on the way that lasts longest, or why no way leads to an anchor now
 */
export function judgeChain(
  chain: readonly Certificate[],
  anchors: readonly Certificate[],
  nowMs: number,
): ChainEnd | string {
  const { notBeforeMs, notAfterMs } = chain[0];
  return judgeFrom(chain[0], { what: 'the certificate', notBeforeMs, notAfterMs }, 0, chain, anchors, nowMs);
}

/**
 * @param end what ends first up to `current`
 * @param below how many authorities there are between the workload and `current`, itself included
 */
function judgeFrom(
  current: Certificate,
  end: ChainEnd,
  below: number,
  chain: readonly Certificate[],
  anchors: readonly Certificate[],
  nowMs: number,
): ChainEnd | string {
  const ways: (ChainEnd | string)[] = [];
  for (const anchor of anchors.filter((candidate) => issued(candidate, current))) {
    const what = 'the trust anchor of the certificate';
    ways.push(authorityProblem(anchor, what, below, nowMs) ?? earlier(end, what, anchor));
  }
  const issuers = chain.filter((candidate) => candidate !== current && issued(candidate, current));
  for (const issuer of below < MAX_INTERMEDIATES ? issuers : []) {
    const what = 'an intermediate certificate';
    const next = earlier(end, what, issuer);
    ways.push(
      authorityProblem(issuer, what, below, nowMs) ??
        judgeFrom(issuer, next, below + 1, chain, anchors, nowMs),
    );
  }
  ways.push(`the certificate does not lead to a trust anchor: nobody trusted issued ${nameOf(current)}`);
  return ways.reduce(better);
}

/** Of two problems the first. */
function better(one: ChainEnd | string, other: ChainEnd | string): ChainEnd | string {
  if (typeof other === 'string') return one;
  return typeof one === 'string' || one.notAfterMs < other.notAfterMs ? other : one;
}

function earlier(end: ChainEnd, what: string, { notBeforeMs, notAfterMs }: Certificate): ChainEnd {
  return end.notAfterMs <= notAfterMs ? end : { what, notBeforeMs, notAfterMs };
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
