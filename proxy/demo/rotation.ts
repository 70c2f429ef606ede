/** New certificates while traffic flows, and the root replaced once: what the sidecars make of it is read from their metrics. */

import { setTimeout as pause } from 'node:timers/promises';
import { UserError } from '../core/errors.ts';
import { type IdentityFigures, replacedRoot } from './golden.ts';
import type { Change, Identities } from './identities.ts';

/** What is changed first, in this order; then certificates only. The roll-over is that of `ferrule identity ca --help`. */
const OPENING: readonly Change[] = ['renew', 'trustSecondRoot', 'issueFromSecondRoot', 'distrustFirstRoot'];

/** Between later changes: often enough to be seen, seldom enough to be told apart. */
const INTERVAL_MS = 2_000;

/** A sidecar looks at its files every second; this bears a machine that is busy with everything else. */
const PATIENCE_MS = 10_000;

/** A scrape costs both sidecars a millisecond. */
const POLL_MS = 200;

/** What the rotation works with. */
export interface RotationParts {
  readonly identities: Pick<Identities, 'apply'>;
  /** What each sidecar's metrics say now. */
  readonly figures: () => Promise<readonly IdentityFigures[]>;
  readonly patienceMs?: number;
  readonly intervalMs?: number;
}

/**
 * Changes certificates until `end`; a change under way is finished then, so that every run has at least one.
 * @param rolledOver called when no sidecar trusts the first root any more
 * @throws UserError when a sidecar does not take up a change
 */
export async function rotate(parts: RotationParts, rolledOver: () => void, end: AbortSignal): Promise<void> {
  const { intervalMs = INTERVAL_MS } = parts;
  for (let round = 0; round === 0 || !end.aborted; round++) {
    const change = OPENING[round] ?? 'renew';
    await makeChange(parts, change);
    if (change === 'distrustFirstRoot') rolledOver();
    if (round + 1 >= OPENING.length) await untilNext(intervalMs, end);
  }
}

async function makeChange(parts: RotationParts, change: Change): Promise<void> {
  const { identities, figures, patienceMs = PATIENCE_MS } = parts;
  const before = await figures();
  await identities.apply(change);
  const deadlineMs = performance.now() + patienceMs;
  for (;;) {
    const now = await figures();
    const late = now.filter((one, index) => !tookUp(change, before[index], one));
    if (late.length === 0) return;
    if (performance.now() > deadlineMs) {
      const pods = late.map(({ pod }) => `${pod} pod`).join(' and that of the ');
      throw new UserError(
        `new certificates (${change}) were not taken up within ${patienceMs} ms by the sidecar of the ${pods}`,
      );
    }
    await pause(POLL_MS);
  }
}

function tookUp(change: Change, before: IdentityFigures, now: IdentityFigures): boolean {
  return now.rotations > before.rotations && (change !== 'distrustFirstRoot' || replacedRoot(before, now));
}

async function untilNext(ms: number, end: AbortSignal): Promise<void> {
  try {
    await pause(ms, undefined, { signal: end });
  } catch (error) {
    if (!end.aborted) throw error;
  }
}
