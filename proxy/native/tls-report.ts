/** What the engine tells of a TLS handshake, read from the slab. The layout is that of TlsHandshake::report. */
import type { CertificateName } from '../core/identity.ts';

/** The verified certificate of the peer. */
export interface PeerCertificate {
  readonly names: readonly CertificateName[];
  /** There are more names than are shown. */
  readonly namesTooLong: boolean;
  /** It is a certificate authority's. */
  readonly authority: boolean;
  /** Its key usage allows signatures, as TLS 1.3 needs. */
  readonly maySign: boolean;
}

/** How a handshake went. */
export interface TlsReport {
  /** Since the handshake was started, in microseconds. */
  readonly micros: number;
  /** Undefined when the peer showed none, or none that could be verified. */
  readonly peer: PeerCertificate | undefined;
  /** X509_V_ERR_* of a chain that was refused; 0 for none. */
  readonly verifyError: number;
  /** A certificate of the peer begins that many seconds in the future by our clock, and was let pass; mostly 0. */
  readonly skewSeconds: number;
  /** Validity of the peer's certificate, or of the one that was refused, in seconds since 1970; 0 when unknown. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** The agreed application protocol; empty for none. */
  readonly alpn: string;
  /** What the client asked for; empty for none. */
  readonly serverName: string;
  readonly group: string;
  readonly cipher: string;
  /** Why it failed, in OpenSSL's words; empty when it did not. */
  readonly problem: string;
}

const FLAG_PEER = 1;
const FLAG_AUTHORITY = 2;
const FLAG_NO_SIGNATURE = 4;
const FLAG_NAMES_TOO_LONG = 8;

/** GENERAL_NAME types of RFC 5280 section 4.2.1.6. */
const GENERAL_NAME_DNS = 2;
const GENERAL_NAME_URI = 6;

/** Reads the report at `offset` of the slab; what it returns owns its bytes. */
export function readTlsReport(slab: Uint8Array, offset: number, length: number): TlsReport {
  const bytes = Buffer.from(slab.slice(offset, offset + length).buffer);
  let at = 0;
  const number = (): number => {
    at += 4;
    return bytes.readUInt32LE(at - 4);
  };
  const piece = (): Buffer => {
    const size = bytes.readUInt16LE(at);
    at += 2 + size;
    return bytes.subarray(at - size, at);
  };
  const text = (): string => piece().toString('latin1');
  const [micros, flags, verifyError] = [number(), number(), number()];
  const [skewSeconds, notBefore, notAfter] = [number(), number(), number()];
  const [alpn, serverName, group, cipher, problem] = [text(), text(), text(), text(), text()];
  const names = Array.from({ length: number() }, (): CertificateName => {
    const type = bytes[at++];
    return {
      type: type === GENERAL_NAME_DNS ? 'dns' : type === GENERAL_NAME_URI ? 'uri' : 'other',
      bytes: piece(),
    };
  });
  const peer =
    (flags & FLAG_PEER) === 0
      ? undefined
      : {
          names,
          namesTooLong: (flags & FLAG_NAMES_TOO_LONG) !== 0,
          authority: (flags & FLAG_AUTHORITY) !== 0,
          maySign: (flags & FLAG_NO_SIGNATURE) === 0,
        };
  return {
    micros,
    peer,
    verifyError,
    skewSeconds,
    notBefore,
    notAfter,
    alpn,
    serverName,
    group,
    cipher,
    problem,
  };
}
