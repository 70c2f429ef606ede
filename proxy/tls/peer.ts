/** What a finished or failed handshake says about the peer. */
import { type PeerIdentity, readPeerIdentity, sameIdentity } from '../core/identity.ts';
import { LineBudget } from '../core/line-budget.ts';
import { log } from '../core/log.ts';
import type { TlsReport } from '../native/tls-report.ts';

/**
 * Why a handshake failed, or its peer was refused: the `error` label of `ferrule_tls_handshakes_total`. `name` is a certificate
 * whose names we do not accept, `identity` one that is somebody else's.
 */
export type HandshakeFault =
  | 'expired'
  | 'not_yet_valid'
  | 'unknown_ca'
  | 'certificate'
  | 'version'
  | 'plaintext'
  | 'protocol'
  | 'timeout'
  | 'closed'
  | 'name'
  | 'identity';

/** A handshake that did not lead to a usable peer. */
export interface HandshakeProblem {
  readonly fault: HandshakeFault;
  /** For the log. */
  readonly detail: string;
}

/** The peer of a handshake that succeeded. */
export type PeerVerdict =
  /** `identity` is undefined when a client showed no certificate. */
  | { readonly kind: 'peer'; readonly identity: PeerIdentity | undefined }
  | { readonly kind: 'refused'; readonly problem: HandshakeProblem };

/** X509_V_ERR_* of OpenSSL's x509_vfy.h. */
const VERIFY_FAULTS: ReadonlyMap<number, HandshakeFault> = new Map([
  [2, 'unknown_ca'],
  [9, 'not_yet_valid'],
  [10, 'expired'],
  [18, 'unknown_ca'],
  [19, 'unknown_ca'],
  [20, 'unknown_ca'],
  [21, 'unknown_ca'],
]);

/** A clock that is off by more than this, in seconds, is worth a line in the log. */
const SKEW_WORTH_SAYING_S = 30;

/** OpenSSL's words for first bytes that are no TLS record, and for bytes that are no protected record later in a handshake. */
const PLAINTEXT_FIRST = /wrong version number|http request/;
const PLAINTEXT_LATER = /bad record type/;

const lines = new LineBudget();

/** Who the peer of a successful handshake is; its chain was verified, its names were not. */
export function judgePeer(report: TlsReport): PeerVerdict {
  const { peer } = report;
  if (log.debugEnabled) {
    const { serverName, alpn, group, cipher, micros } = report;
    log.debug('TLS handshake', { serverName, alpn, group, cipher, micros });
  }
  if (report.skewSeconds >= SKEW_WORTH_SAYING_S) warnOfSkew(report);
  if (peer === undefined) return { kind: 'peer', identity: undefined };
  if (peer.authority) return refused('certificate', 'the certificate is that of an authority');
  if (!peer.maySign)
    return refused('certificate', 'the key usage of the certificate does not allow signatures');
  if (peer.namesTooLong) return refused('name', 'the certificate has too many names');
  const read = readPeerIdentity(peer.names);
  return typeof read === 'string' ? refused('name', read) : { kind: 'peer', identity: read };
}

/** The same for a server, which must be `expected`. */
export function judgeServer(report: TlsReport, expected: string): HandshakeProblem | undefined {
  const verdict = judgePeer(report);
  if (verdict.kind === 'refused') return verdict.problem;
  if (verdict.identity !== undefined && sameIdentity(expected, verdict.identity)) return undefined;
  return { fault: 'identity', detail: `it is ${verdict.identity?.text ?? 'nobody'} and not ${expected}` };
}

/** Why a handshake with `peer` failed. */
export function handshakeProblem(report: TlsReport, peer: 'client' | 'endpoint'): HandshakeProblem {
  const { verifyError, problem } = report;
  if (verifyError !== 0) {
    const fault = VERIFY_FAULTS.get(verifyError) ?? 'certificate';
    const clocks =
      fault === 'expired' || fault === 'not_yet_valid'
        ? ` (valid from ${isoSeconds(report.notBefore)} to ${isoSeconds(report.notAfter)}; our clock says ${new Date().toISOString()})`
        : '';
    return { fault, detail: `${problem}${clocks}` };
  }
  if (/closed the connection|connection broke/.test(problem)) return { fault: 'closed', detail: problem };
  // A client's first bytes were a ClientHello, or there would have been no handshake.
  if (PLAINTEXT_LATER.test(problem) || (peer === 'client' && PLAINTEXT_FIRST.test(problem))) {
    return { fault: 'plaintext', detail: `the ${peer} went on in plaintext in the middle of the handshake` };
  }
  if (PLAINTEXT_FIRST.test(problem)) {
    return { fault: 'plaintext', detail: 'the endpoint answers in plaintext, not in TLS' };
  }
  if (/version|unsupported protocol/.test(problem)) return { fault: 'version', detail: problem };
  return { fault: 'protocol', detail: problem };
}

function refused(fault: HandshakeFault, detail: string): PeerVerdict {
  return { kind: 'refused', problem: { fault, detail } };
}

function warnOfSkew({ skewSeconds, notBefore }: TlsReport): void {
  const line = lines.take('skew');
  if (line === undefined) return;
  log.warn('clocks differ: a certificate of the peer is not valid yet by our clock, and was accepted', {
    seconds: skewSeconds,
    notBefore: isoSeconds(notBefore),
    now: new Date().toISOString(),
    ...line,
  });
}

function isoSeconds(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}
