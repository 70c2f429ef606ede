/**
 * The machine as this folder sees it: programs to run and the IPv6 switches of the kernel. One seam, so that tests can
 * put a machine without ip6tables or without root in its place.
 */

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { EXIT, UserError } from '../proxy/core/errors.ts';
import type { Family } from './rules.ts';

/** What became of a program. */
export interface ToolResult {
  /** Exit status; -1 when it was killed or could not be started. */
  readonly status: number;
  readonly stdout: string;
  /** What it complained about; never empty when it failed. */
  readonly stderr: string;
  /** The program is not installed. */
  readonly absent: boolean;
}

/** Programs and kernel switches of the network namespace this process is in. */
export interface Tools {
  run(program: string, args: readonly string[], input?: string): ToolResult;
  /** Interfaces (and `default`, for those to come) that may carry IPv6; empty when IPv6 is off. */
  ipv6Interfaces(): string[];
  /** This process may change the network namespace; programs with capabilities of their own may even if it may not. */
  mayAdminister(): boolean;
}

/** Where distributions keep iptables; missing from the PATH of ordinary users and of many containers. */
const SYSTEM_PATHS = '/usr/local/sbin:/usr/sbin:/sbin';

/** CAP_NET_ADMIN (12) and CAP_NET_RAW (13), see capabilities(7). */
const NEEDED_CAPABILITIES = (1n << 12n) | (1n << 13n);

const PRIVILEGE_COMPLAINT = /permission denied|operation not permitted|must be root/i;
const PRIVILEGE_ADVICE =
  'needs root or the capabilities CAP_NET_ADMIN and CAP_NET_RAW in this network namespace';

/** Longer than any wait for the xtables lock that makes sense: a hung program must not hang a pod's start for good. */
const TOOL_TIMEOUT_MS = 120_000;

/** Saved tables of a host with tens of thousands of rules are a few megabytes. */
const TOOL_OUTPUT_BYTES = 64 << 20;

/** The real machine. */
export const systemTools: Tools = {
  run(program, args, input = '') {
    const done = spawnSync(program, args, {
      input,
      encoding: 'utf8',
      env: { ...process.env, PATH: `${process.env.PATH ?? '/usr/bin:/bin'}:${SYSTEM_PATHS}`, LC_ALL: 'C' },
      timeout: TOOL_TIMEOUT_MS,
      maxBuffer: TOOL_OUTPUT_BYTES,
    });
    const error = done.error as NodeJS.ErrnoException | undefined;
    const status = done.status ?? -1;
    const complaint = withoutNoise(done.stderr ?? '');
    return {
      status,
      stdout: done.stdout ?? '',
      stderr:
        complaint !== '' || status === 0 ? complaint : (error?.message ?? `${program} ended with ${status}`),
      absent: error?.code === 'ENOENT',
    };
  },

  ipv6Interfaces() {
    // Through a child: one way to ask, and /proc/sys/net shows the namespace of whoever opens the file.
    const switches = 'cd /proc/sys/net/ipv6/conf && for i in *; do echo "$i $(cat "$i/disable_ipv6")"; done';
    const { stdout } = this.run('sh', ['-c', switches]);
    return stdout
      .split('\n')
      .map((line) => line.split(' '))
      .filter(([name, disabled]) => disabled === '0' && name !== 'lo' && name !== 'all')
      .map(([name]) => name);
  },

  mayAdminister() {
    const effective =
      /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0';
    return (BigInt(`0x${effective}`) & NEEDED_CAPABILITIES) === NEEDED_CAPABILITIES;
  },
};

/** Drops what iptables says on every occasion: warnings about the other back end, pointers to its help. */
function withoutNoise(complaint: string): string {
  const lines = complaint
    .split('\n')
    .filter((line) => !/^(# Warning|Try `|Perhaps )/.test(line) && line.trim() !== '');
  return lines.join('\n');
}

/** Turns what a program complained about into what its user can do. */
export function adviceFor(tools: Tools, complaint: string, program: string, family: Family): string {
  const legacyModules = family === 4 ? 'iptable_nat xt_REDIRECT' : 'ip6table_nat xt_REDIRECT';
  const known: readonly (readonly [RegExp, string])[] = [
    [
      /can't open lock file/i,
      'the lock file cannot be written: make /run writable (an emptyDir in a pod) or set XTABLES_LOCKFILE to a ' +
        'path that is; without root, run as root',
    ],
    [PRIVILEGE_COMPLAINT, PRIVILEGE_ADVICE],
    [/xtables lock/i, 'another program holds the xtables lock: raise --wait, or end that program'],
    [
      /initialize nft|protocol not supported|netlink/i,
      'the kernel has no nf_tables: load nf_tables and nft_chain_nat, or use --iptables-mode legacy',
    ],
    [
      /table does not exist|(can't|unable to) initialize|no chain\/target\/match|couldn't load|missing kernel module|not supported/i,
      `the kernel or ${program} lacks something for NAT: load ${legacyModules} xt_owner xt_multiport xt_comment ` +
        '(legacy) or nft_chain_nat nft_compat (nft)',
    ],
    [
      /incompatible, use 'nft' tool/i,
      'the nat table was written by the nft program: use --iptables-mode legacy',
    ],
  ];
  if (complaint.includes('is not installed')) return 'nothing was tried with it';
  // Some programs call every failure a missing table.
  if (!tools.mayAdminister() && !/lock file/i.test(complaint)) return PRIVILEGE_ADVICE;
  return known.find(([pattern]) => pattern.test(complaint))?.[1] ?? 'see the message above';
}

/** True when the program failed for want of privileges, which says nothing about the kernel or the rules. */
export function lacksPrivilege(complaint: string): boolean {
  return PRIVILEGE_COMPLAINT.test(complaint);
}

/** Neither family's iptables is there. */
export function notInstalled(program: string): UserError {
  return new UserError(
    `${program} is not installed: install the package iptables (Debian, Ubuntu, Alpine, Fedora)`,
    EXIT.unavailable,
  );
}
