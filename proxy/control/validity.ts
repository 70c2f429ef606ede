/** The time a certificate is good for, in words that show both clocks: the reader may have to find out which one is wrong. */
import type { Certificate } from './x509.ts';

/** A certificate may begin this much in the future by our clock, in ms: what peers allow too (tls_handshake.cc). */
const CLOCK_TOLERANCE_MS = 300_000;

/**
 * Why a certificate cannot be used at `nowMs` (since 1970); undefined when time does not forbid it.
 * @param what the certificate, as the sentence begins
 */
export function timeProblem(
  { notBeforeMs, notAfterMs }: Pick<Certificate, 'notBeforeMs' | 'notAfterMs'>,
  what: string,
  nowMs: number,
): string | undefined {
  const clock = `our clock says ${new Date(nowMs).toISOString()}`;
  if (notAfterMs <= nowMs) {
    return `${what} expired at ${new Date(notAfterMs).toISOString()}, ${roughly(nowMs - notAfterMs)} ago; ${clock}`;
  }
  if (notBeforeMs > nowMs + CLOCK_TOLERANCE_MS) {
    return `${what} is not valid before ${new Date(notBeforeMs).toISOString()}, in ${roughly(notBeforeMs - nowMs)}; ${clock}`;
  }
  return undefined;
}

/** A duration in ms for people. Two units at the most: nobody counts the seconds of a year. */
export function roughly(ms: number): string {
  const minutes = Math.floor(ms / 60_000);
  const hours = Math.floor(minutes / 60);
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${minutes % 60} min`;
  return minutes > 0 ? `${minutes} min` : `${Math.floor(ms / 1000)} s`;
}
