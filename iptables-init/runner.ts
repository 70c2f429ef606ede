/** Installs, shows and removes the rules. Each family's change is one transaction; a failure undoes the other's. */

import { EXIT, UserError } from '../proxy/core/errors.ts';
import {
  type Backend,
  candidateBackends,
  change,
  type IptablesMode,
  installedBackends,
  restoreCommand,
  scan,
} from './backend.ts';
import { type CaptureOptions, captureRules, type Family } from './rules.ts';
import { isNothing, NOTHING, type OwnState, stateOf, transition } from './table.ts';
import { adviceFor, type Tools } from './tools.ts';

/** Whether IPv6 is captured: where it is enabled, always (or fail), or never. */
export const IPV6_MODES = ['auto', 'require', 'off'] as const;
export type Ipv6Mode = (typeof IPV6_MODES)[number];

/** How the rules get into the kernel. */
export interface RunOptions {
  readonly mode: IptablesMode;
  readonly ipv6: Ipv6Mode;
  /** Seconds to wait for the xtables lock, above 0. */
  readonly waitSeconds: number;
}

/** What was done. */
export interface Applied {
  readonly backend: Backend;
  readonly families: readonly Family[];
  /** Leftovers that were removed elsewhere, one sentence each. */
  readonly notes: readonly string[];
}

interface Change {
  readonly family: Family;
  readonly before: OwnState;
}

interface Failure {
  readonly family: Family;
  readonly program: string;
  readonly complaint: string;
  /** Why the other family could not be put back; undefined when all is as before. */
  readonly halfApplied: string | undefined;
}

/**
 * The families to capture. IPv6 comes first: it is the one that fails, and then IPv4 has not been touched.
 */
export function familiesToCapture(tools: Tools, ipv6: Ipv6Mode): Family[] {
  const wanted = ipv6 === 'require' || (ipv6 === 'auto' && tools.ipv6Interfaces().length > 0);
  return wanted ? [6, 4] : [4];
}

/**
 * Installs the rules; safe to repeat, with the same or other options. Leftovers of ours in the other back end, or in a
 * family that is no longer captured, are removed afterwards: first the new rules, so that nothing passes uncaptured.
 * @throws UserError when no back end can do it; the tables are then as before, or the message says what is not
 */
export function applyCapture(tools: Tools, options: CaptureOptions, run: RunOptions): Applied {
  const families = familiesToCapture(tools, run.ipv6);
  const failures: Failure[] = [];
  for (const backend of candidateBackends(tools, run.mode)) {
    const failure = tryBackend(tools, backend, families, options, run);
    if (failure === undefined) {
      const notes = sweep(tools, run, (kind, family) => kind === backend.kind && families.includes(family));
      return { backend, families, notes };
    }
    failures.push(failure);
    if (failure.halfApplied !== undefined) break;
  }
  throw cannotApply(failures, tools, run.ipv6);
}

/**
 * Removes what is ours from both back ends and both families, and nothing else.
 * @returns what was removed, one sentence each; empty when there was nothing
 * @throws UserError when something of ours cannot be removed, or nothing can be read at all
 */
export function removeCapture(tools: Tools, run: RunOptions): string[] {
  // The best candidate is one that can be read, if there is any.
  const [backend] = candidateBackends(tools, 'auto');
  const found = scan(tools, backend, 4);
  if (!found.ok) throw unusable(tools, backend.programs[4], 4, found.complaint);
  return sweep(tools, run, () => false);
}

/**
 * What `applyCapture` would run, as commands for a shell. Needs no privileges: tables that cannot be read are taken to
 * be empty, and said to be so in a comment.
 */
export function simulateCapture(tools: Tools, options: CaptureOptions, run: RunOptions): string {
  const [backend] = candidateBackends(tools, run.mode);
  const blocks = familiesToCapture(tools, run.ipv6).map((family) => {
    const found = scan(tools, backend, family);
    const target = { backend, family, waitSeconds: run.waitSeconds };
    const input = transition(found.ok ? found.table : NOTHING, stateOf(captureRules(options, family)));
    const unread = found.ok
      ? ''
      : `# The present rules cannot be read and are taken to be none: ${found.complaint}\n`;
    return `${unread}${restoreCommand(target).join(' ')} <<'END'\n${input}END\n`;
  });
  return blocks.join('\n');
}

function tryBackend(
  tools: Tools,
  backend: Backend,
  families: readonly Family[],
  options: CaptureOptions,
  { waitSeconds }: RunOptions,
): Failure | undefined {
  const done: Change[] = [];
  for (const family of families) {
    const found = scan(tools, backend, family);
    const complaint = found.ok
      ? change(tools, { backend, family, waitSeconds }, found.table, stateOf(captureRules(options, family)))
      : found.complaint;
    if (complaint !== undefined || !found.ok) {
      const halfApplied = rollBack(tools, backend, done, waitSeconds);
      return { family, program: backend.programs[family], complaint: complaint ?? '', halfApplied };
    }
    done.push({ family, before: found.table });
  }
  return undefined;
}

/** @returns what could not be put back */
function rollBack(
  tools: Tools,
  backend: Backend,
  changes: readonly Change[],
  waitSeconds: number,
): string | undefined {
  for (const { family, before } of changes) {
    const now = scan(tools, backend, family);
    const complaint = now.ok
      ? change(tools, { backend, family, waitSeconds }, now.table, before)
      : now.complaint;
    if (complaint !== undefined) return `${backend.programs[family]}: ${complaint}`;
  }
  return undefined;
}

/** Removes ours wherever `keep` does not hold. Back ends that cannot be read have no rules of ours. */
function sweep(
  tools: Tools,
  run: RunOptions,
  keep: (kind: Backend['kind'], family: Family) => boolean,
): string[] {
  const removed: string[] = [];
  for (const backend of installedBackends(tools)) {
    for (const family of [4, 6] as const) {
      if (keep(backend.kind, family)) continue;
      const found = scan(tools, backend, family);
      if (!found.ok || isNothing(found.table)) continue;
      const program = backend.programs[family];
      const target = { backend, family, waitSeconds: run.waitSeconds };
      const complaint = change(tools, target, found.table, NOTHING);
      if (complaint !== undefined) throw unusable(tools, program, family, complaint);
      removed.push(`removed Ferrule's IPv${family} rules from ${program}`);
    }
  }
  return removed;
}

function unusable(tools: Tools, program: string, family: Family, complaint: string): UserError {
  return new UserError(
    `${program} cannot be used: ${complaint}\n${adviceFor(tools, complaint, program, family)}`,
    EXIT.unavailable,
  );
}

function cannotApply(failures: readonly Failure[], tools: Tools, ipv6: Ipv6Mode): UserError {
  const lines = failures.flatMap(({ program, family, complaint }) => [
    `${program}: ${complaint}`,
    `  ${adviceFor(tools, complaint, program, family)}`,
  ]);
  const half = failures.find(({ halfApplied }) => halfApplied !== undefined)?.halfApplied;
  const state =
    half === undefined
      ? 'Nothing was changed.'
      : `The other family's rules could not be put back (${half}): run \`ferrule init --cleanup\`.`;
  const onlyIpv6 = failures.every(({ family }) => family === 6);
  const where = tools.ipv6Interfaces().join(', ');
  const reason = onlyIpv6
    ? `IPv6 traffic cannot be redirected${where === '' ? '' : `, and IPv6 is enabled here (${where})`}: it would bypass the proxy.`
    : 'The rules cannot be installed.';
  const wayOut =
    onlyIpv6 && ipv6 === 'auto'
      ? [
          'Or disable IPv6 (sysctl net.ipv6.conf.all.disable_ipv6=1), or let it bypass the proxy with --ipv6 off.',
        ]
      : [];
  return new UserError([reason, ...lines, ...wayOut, state].join('\n'), EXIT.unavailable);
}
