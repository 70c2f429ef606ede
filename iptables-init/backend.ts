/**
 * iptables exists twice: over nf_tables and over the old x_tables ("legacy"). Their rules live apart and both act on
 * the same packets, so rules must be in exactly one of them: the one that is already in use.
 */

import { UserError } from '../proxy/core/errors.ts';
import type { Family } from './rules.ts';
import { isNothing, type NatTable, type OwnState, parseSave, transition } from './table.ts';
import { lacksPrivilege, notInstalled, type Tools } from './tools.ts';

/** The kernel interface a program speaks. */
export type BackendKind = 'nft' | 'legacy';

/** How the back end is chosen: `plain` is whatever the distribution calls `iptables`. */
export const IPTABLES_MODES = ['auto', 'nft', 'legacy', 'plain'] as const;
export type IptablesMode = (typeof IPTABLES_MODES)[number];

/** One installed back end. */
export interface Backend {
  readonly kind: BackendKind;
  /** Program per family; `-save` and `-restore` are appended. */
  readonly programs: Readonly<Record<Family, string>>;
}

/** The nat table of one family in one back end, or why it cannot be read. */
export type Scan =
  | { readonly ok: true; readonly table: NatTable }
  | { readonly ok: false; readonly complaint: string };

const PROGRAMS: Readonly<Record<Exclude<IptablesMode, 'auto'>, Backend['programs']>> = {
  nft: { 4: 'iptables-nft', 6: 'ip6tables-nft' },
  legacy: { 4: 'iptables-legacy', 6: 'ip6tables-legacy' },
  plain: { 4: 'iptables', 6: 'ip6tables' },
};

/** Every installed back end, one per kind; `iptables` counts where its kind has no program of its own. */
export function installedBackends(tools: Tools): Backend[] {
  const found: Backend[] = [];
  for (const mode of ['nft', 'legacy', 'plain'] as const) {
    const backend = identify(tools, mode);
    if (backend !== undefined && !found.some(({ kind }) => kind === backend.kind)) found.push(backend);
  }
  return found;
}

/**
 * The back ends to try, best first: one that holds our rules, then one that holds other NAT rules, then nft.
 * @throws UserError when the mode's programs, or all of them, are not installed
 */
export function candidateBackends(tools: Tools, mode: IptablesMode): Backend[] {
  if (mode !== 'auto') {
    const backend = identify(tools, mode);
    if (backend === undefined) throw notInstalled(PROGRAMS[mode][4]);
    return [backend];
  }
  const ranked = installedBackends(tools).map((backend) => ({ backend, rank: rankOf(tools, backend) }));
  if (ranked.length === 0) throw notInstalled('iptables');
  return ranked.sort((a, b) => b.rank - a.rank).map(({ backend }) => backend);
}

/** Reads the nat table. Reading creates and loads nothing: iptables-save without a table name lists what exists. */
export function scan(tools: Tools, backend: Backend, family: Family): Scan {
  const program = `${backend.programs[family]}-save`;
  const { status, stdout, stderr, absent } = tools.run(program, ['-c']);
  if (absent) return { ok: false, complaint: notInstalled(program).message };
  if (status !== 0) return { ok: false, complaint: stderr };
  const incompatible = /Table .nat' is incompatible.*/.exec(stdout);
  if (incompatible !== null) return { ok: false, complaint: incompatible[0] };
  return { ok: true, table: parseSave(stdout) };
}

/**
 * Turns our part of the nat table from one state into another, in one transaction.
 * @param waitSeconds how long to wait for the xtables lock
 * @returns what the program complained about; undefined when it worked
 */
export function change(
  tools: Tools,
  target: { readonly backend: Backend; readonly family: Family; readonly waitSeconds: number },
  from: OwnState,
  to: OwnState,
): string | undefined {
  const input = transition(from, to);
  if (input === undefined) return undefined;
  const [program, ...args] = restoreCommand(target);
  const { status, stderr, absent } = tools.run(program, args, input);
  if (absent) return notInstalled(program).message;
  return status === 0 ? undefined : stderr;
}

/** The command `change` runs: program and arguments. */
export function restoreCommand(target: {
  readonly backend: Backend;
  readonly family: Family;
  readonly waitSeconds: number;
}): string[] {
  return [
    `${target.backend.programs[target.family]}-restore`,
    '--noflush',
    '--wait',
    `${target.waitSeconds}`,
  ];
}

function identify(tools: Tools, mode: Exclude<IptablesMode, 'auto'>): Backend | undefined {
  const programs = PROGRAMS[mode];
  const { absent, status, stdout, stderr } = tools.run(programs[4], ['--version']);
  if (absent) return undefined;
  if (status !== 0) throw new UserError(`${programs[4]} --version fails: ${stderr}`);
  // Before 1.8 there was only legacy, and it did not say so.
  return { kind: stdout.includes('nf_tables') ? 'nft' : 'legacy', programs };
}

function rankOf(tools: Tools, backend: Backend): number {
  const scans = ([4, 6] as const).map((family) => scan(tools, backend, family));
  const tables = scans.filter((one) => one.ok).map((one) => one.table);
  if (tables.some((table) => !isNothing(table))) return 4;
  if (tables.some((table) => table.foreignRules > 0)) return 3;
  // What the kernel does not have comes last; being forbidden to look is no such sign.
  const [ipv4] = scans;
  if (!ipv4.ok && !lacksPrivilege(ipv4.complaint)) return 0;
  return backend.kind === 'nft' ? 2 : 1;
}
