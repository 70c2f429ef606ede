/**
 * Reads certificates. Node tells most of what they say; key usage, path length and the bytes of names are read from the
 * encoding (X.690 DER, RFC 5280), because Node shows the first two not at all and the names only as escaped text.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { UserError } from '../core/errors.ts';
import type { CertificateName } from '../core/identity.ts';

/** What a certificate says, as far as we look. */
export interface Certificate {
  readonly x509: X509Certificate;
  readonly pem: string;
  readonly names: readonly CertificateName[];
  /** What the basic constraints say, whatever the key usage does: Node's `ca` asks for both. */
  readonly isCa: boolean;
  /** How many authorities may come between it and a workload; undefined where that is not limited. */
  readonly pathLength: number | undefined;
  /** Undefined when the extension is absent, which allows everything. */
  readonly keyUsages: readonly string[] | undefined;
  /** OIDs; undefined when the extension is absent, which allows everything. */
  readonly extendedKeyUsages: readonly string[] | undefined;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** For people: `ECDSA P-256`, `Ed25519`, `RSA 2048`. */
  readonly keyKind: string;
}

/** Bits of the KeyUsage extension in their order, RFC 5280 section 4.2.1.3. */
const KEY_USAGES = [
  'digitalSignature',
  'nonRepudiation',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
  'decipherOnly',
] as const;

/** With the label of RFC 7468 section 5.1, or the older one of its section 5.2 that OpenSSL takes too. */
const PEM_CERTIFICATE = /-----BEGIN (X509 )?CERTIFICATE-----([^-]*)-----END \1CERTIFICATE-----/g;
const PEM_BEGIN = /-----BEGIN (?:X509 )?CERTIFICATE-----/g;
/** OpenSSL's own: a certificate followed by what it is to be trusted for, which nothing else understands. */
const PEM_TRUSTED = /-----BEGIN TRUSTED CERTIFICATE-----/;

/**
 * The certificates of a PEM file, each as PEM text that ends its line; what is around them is left out, and so is the
 * indentation of text that was copied out of YAML.
 */
export function splitCertificates(pem: string): string[] {
  return Array.from(pem.matchAll(PEM_CERTIFICATE), ([, , body]) => {
    const text = `-----BEGIN CERTIFICATE-----${body}-----END CERTIFICATE-----\n`;
    return text.replaceAll(/^[ \t]+/gm, '');
  });
}

/**
 * Reads the certificates of a PEM file.
 * @param name the file, for errors
 * @throws UserError when there is none, or one of them cannot be read
 */
export function readCertificates(pem: string, name: string): [Certificate, ...Certificate[]] {
  if (PEM_TRUSTED.test(pem)) {
    throw new UserError(
      `${name} has a TRUSTED CERTIFICATE, in OpenSSL's own format: \`openssl x509 -in FILE\` prints it as a plain one`,
    );
  }
  const texts = splitCertificates(pem);
  if ((pem.match(PEM_BEGIN) ?? []).length > texts.length) {
    throw new UserError(`${name} is cut short: a certificate in it has no end`);
  }
  const [first, ...rest] = texts.map((text, index) => {
    const which = texts.length === 1 ? 'the certificate in it' : `certificate ${index + 1} in it`;
    try {
      return readCertificate(text);
    } catch (error) {
      throw new UserError(`${name}: ${which} cannot be read (${(error as Error).message})`, undefined, {
        cause: error,
      });
    }
  });
  if (first === undefined) {
    const what =
      pem.trim() === '' ? 'is empty' : 'has no certificate: it must be PEM text (BEGIN CERTIFICATE)';
    throw new UserError(`${name} ${what}`);
  }
  return [first, ...rest];
}

/**
 * Reads a private key.
 * @param name the file, for errors
 * @throws UserError when it is none, or needs a passphrase
 */
export function readPrivateKey(pem: string, name: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    throw new UserError(`${name} holds no private key (PEM, not encrypted)`, undefined, { cause });
  }
}

function readCertificate(pem: string): Certificate {
  const x509 = new X509Certificate(pem);
  const extensions = readExtensions(x509.raw);
  const constraints = extensions.get('551d13');
  const usage = extensions.get('551d0f');
  const names = extensions.get('551d11');
  return {
    x509,
    pem,
    names: names === undefined ? [] : children(single(names)).map(toName),
    ...readConstraints(constraints),
    keyUsages: usage === undefined ? undefined : readKeyUsages(single(usage).value),
    extendedKeyUsages: x509.keyUsage,
    notBeforeMs: x509.validFromDate.getTime(),
    notAfterMs: x509.validToDate.getTime(),
    keyKind: describeKey(x509),
  };
}

function describeKey({ publicKey }: X509Certificate): string {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = publicKey;
  if (type === 'ed25519') return 'Ed25519';
  if (type === 'ec')
    return details?.namedCurve === 'prime256v1' ? 'ECDSA P-256' : `ECDSA ${details?.namedCurve}`;
  if (type === 'rsa') return `RSA ${details?.modulusLength}`;
  return type ?? 'unknown';
}

/** An element of DER: its identifier octet and its contents. */
interface Element {
  readonly tag: number;
  readonly value: Uint8Array;
}

/** Identifier octets. */
const TAG = { boolean: 0x01, integer: 0x02, extensions: 0xa3, dnsName: 0x82, uri: 0x86 } as const;

/**
 * The extensions of a certificate by the hexadecimal form of their OID. OpenSSL has parsed the certificate before: the
 * lengths are known to be right.
 */
function readExtensions(certificate: Uint8Array): ReadonlyMap<string, Uint8Array> {
  const [toBeSigned] = children(single(certificate));
  const field = children(toBeSigned).find(({ tag }) => tag === TAG.extensions);
  const list = field === undefined ? [] : children(single(field.value));
  return new Map(
    list.map((extension) => {
      const parts = children(extension);
      return [Buffer.from(parts[0].value).toString('hex'), parts[parts.length - 1].value];
    }),
  );
}

/** cA, FALSE unless it is there, and pathLenConstraint (RFC 5280 section 4.2.1.9). */
function readConstraints(extension: Uint8Array | undefined): Pick<Certificate, 'isCa' | 'pathLength'> {
  const parts = extension === undefined ? [] : children(single(extension));
  const length = parts.find(({ tag }) => tag === TAG.integer);
  return {
    isCa: parts.some(({ tag, value }) => tag === TAG.boolean && value[0] !== 0),
    pathLength: length?.value.reduce((sum, byte) => sum * 256 + byte, 0),
  };
}

/** A BIT STRING: the number of unused bits, then bits from the highest down. */
function readKeyUsages(bits: Uint8Array): string[] {
  return KEY_USAGES.filter((_usage, index) => {
    const byte = bits[1 + (index >> 3)] ?? 0;
    return (byte & (0x80 >> (index & 7))) !== 0;
  });
}

function toName({ tag, value }: Element): CertificateName {
  const type = tag === TAG.dnsName ? 'dns' : tag === TAG.uri ? 'uri' : 'other';
  return { type, bytes: value };
}

function single(bytes: Uint8Array): Element {
  return elements(bytes)[0];
}

function children({ value }: Element): Element[] {
  return elements(value);
}

function elements(bytes: Uint8Array): Element[] {
  const found: Element[] = [];
  let at = 0;
  while (at + 1 < bytes.length) {
    const tag = bytes[at];
    const first = bytes[at + 1];
    at += 2;
    let length = first;
    if (first >= 0x80) {
      length = 0;
      for (let rest = first & 0x7f; rest > 0; rest--) length = length * 256 + bytes[at++];
    }
    found.push({ tag, value: bytes.subarray(at, at + length) });
    at += length;
  }
  return found;
}
