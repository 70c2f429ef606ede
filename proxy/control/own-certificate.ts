/** Reads and judges our own certificate, key and trust anchors: what is wrong is found before a peer finds it. */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { type CertificateName, readPeerIdentity, serverNameOf } from '../core/identity.ts';
import type { OwnIdentity } from '../model/messages.ts';

/** The three PEM texts. */
export interface IdentityTexts {
  readonly certificate: string;
  readonly key: string;
  readonly trustAnchors: string;
}

/** Extended key usages (RFC 5280 section 4.2.1.12): a sidecar is both. */
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

/** A certificate may begin this much in the future by our clock, in ms: what peers allow too (tls_handshake.cc). */
const CLOCK_TOLERANCE_MS = 300_000;

/** Longest chain followed: leaf, a few intermediates, root. */
const MAX_CHAIN = 10;

/**
 * Checks the texts.
 * @param nowMs milliseconds since 1970
 * @returns what they say
 * @throws Error that says what is wrong with which of them
 */
export function readOwnCertificate(texts: IdentityTexts, version: number, nowMs: number): OwnIdentity {
  const chain = certificatesOf(texts.certificate, 'the certificate file');
  const anchors = certificatesOf(texts.trustAnchors, 'the trust anchors file');
  const leaf = chain[0];
  checkKey(leaf, texts.key);
  if (leaf.ca) throw new Error('the certificate is that of an authority');
  const usages = leaf.keyUsage;
  if (usages !== undefined && !(usages.includes(SERVER_AUTH) && usages.includes(CLIENT_AUTH))) {
    throw new Error('the certificate is not for both server and client authentication (extended key usage)');
  }
  const names = readPeerIdentity(alternativeNames(leaf));
  if (typeof names === 'string') throw new Error(names);
  const identity = names.spiffeId ?? names.text;
  const serverName = names.dnsNames[0] ?? serverNameOf(identity);
  if (serverName === undefined) {
    throw new Error(`the certificate has no DNS name, and ${identity} does not imply one`);
  }
  checkTime(leaf, 'the certificate', nowMs);
  checkChain(chain, anchors, nowMs);
  return {
    version,
    certificatePem: texts.certificate,
    keyPem: texts.key,
    trustAnchorsPem: texts.trustAnchors,
    identity,
    serverName,
    notBeforeMs: leaf.validFromDate.getTime(),
    notAfterMs: leaf.validToDate.getTime(),
    trustAnchorNotAfterMs: Math.max(...anchors.map((anchor) => anchor.validToDate.getTime())),
  };
}

function certificatesOf(text: string, what: string): X509Certificate[] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g);
  if (blocks === null) throw new Error(`${what} holds no certificate (PEM)`);
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block);
    } catch (cause) {
      throw new Error(`certificate ${index + 1} of ${what} cannot be read`, { cause });
    }
  });
}

function checkKey(leaf: X509Certificate, text: string): void {
  const { asymmetricKeyType, asymmetricKeyDetails } = leaf.publicKey;
  const p256 = asymmetricKeyType === 'ec' && asymmetricKeyDetails?.namedCurve === 'prime256v1';
  if (!p256 && asymmetricKeyType !== 'ed25519') {
    throw new Error(
      `the certificate has a key of type ${asymmetricKeyType}; it must be ECDSA P-256 or Ed25519`,
    );
  }
  let key: KeyObject;
  try {
    key = createPrivateKey(text);
  } catch (cause) {
    throw new Error('the key file holds no private key (PEM, not encrypted)', { cause });
  }
  if (!leaf.checkPrivateKey(key)) throw new Error('the key is not that of the certificate');
}

function checkTime(certificate: X509Certificate, what: string, nowMs: number): void {
  const now = new Date(nowMs).toISOString();
  const { validFromDate, validToDate } = certificate;
  if (validToDate.getTime() <= nowMs) {
    throw new Error(`${what} expired at ${validToDate.toISOString()}; our clock says ${now}`);
  }
  if (validFromDate.getTime() > nowMs + CLOCK_TOLERANCE_MS) {
    throw new Error(`${what} begins at ${validFromDate.toISOString()}; our clock says ${now}`);
  }
}

/** Follows the issuers from the leaf to an anchor. */
function checkChain(
  chain: readonly X509Certificate[],
  anchors: readonly X509Certificate[],
  nowMs: number,
): void {
  let current = chain[0];
  for (let length = 0; length < MAX_CHAIN; length++) {
    const issued = (candidate: X509Certificate) =>
      current.checkIssued(candidate) && current.verify(candidate.publicKey);
    const anchor = anchors.find(issued);
    if (anchor !== undefined) return checkTime(anchor, 'the trust anchor of the certificate', nowMs);
    const issuer = chain.find((candidate) => candidate !== current && issued(candidate));
    if (issuer === undefined) break;
    checkTime(issuer, 'an intermediate certificate', nowMs);
    current = issuer;
  }
  throw new Error(
    `the certificate does not lead to a trust anchor: nobody trusted issued ${current.subject}`,
  );
}

/** Node's text form of the names; what it had to quote is nothing we accept, and stays quoted. */
function alternativeNames(leaf: X509Certificate): CertificateName[] {
  return (leaf.subjectAltName ?? '').split(', ').flatMap((entry): CertificateName[] => {
    const [kind, value] = [entry.slice(0, entry.indexOf(':')), entry.slice(entry.indexOf(':') + 1)];
    const type = kind === 'DNS' ? 'dns' : kind === 'URI' ? 'uri' : 'other';
    return entry === '' ? [] : [{ type, bytes: Buffer.from(value) }];
  });
}
