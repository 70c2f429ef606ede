/** `ferrule init --check`: whether the rules are what they should be, and whether a real connection is captured. */

import { type Backend, installedBackends, scan } from './backend.ts';
import { type ProbeResult, probeOutbound } from './probe.ts';
import { type CaptureOptions, captureRules, type Family, INBOUND_CHAIN } from './rules.ts';
import { familiesToCapture, type RunOptions } from './runner.ts';
import { differences, isNothing, type NatTable, stateOf } from './table.ts';
import type { Tools } from './tools.ts';

/** What the check found. Lines start with `ok`, `note` or `FAIL`. */
export interface CheckReport {
  /** At least one connection was captured and nothing speaks against the rest. */
  readonly proven: boolean;
  readonly lines: readonly string[];
}

interface Findings {
  readonly lines: string[];
  failed: boolean;
  captured: boolean;
}

interface Installed {
  readonly backend: Backend;
  readonly table: NatTable;
}

/** Checks capture in this network namespace, against the options it should have been installed with. */
export async function checkCapture(
  tools: Tools,
  options: CaptureOptions,
  run: RunOptions,
): Promise<CheckReport> {
  const findings: Findings = { lines: [], failed: false, captured: false };
  const families = familiesToCapture(tools, run.ipv6).sort();
  checkRules(findings, tools, options, families);
  if (dialsAsProxy(options)) {
    fail(
      findings,
      `this check runs with the proxy's uid ${options.proxyUid} or gid, whose traffic is exempt: run it as another user`,
    );
  } else {
    const results = await Promise.all(families.map((family) => probeOutbound(options, family)));
    for (const [index, family] of families.entries()) report(findings, family, options, results[index]);
  }
  if (!findings.failed && !findings.captured) {
    fail(
      findings,
      'no connection can leave this network namespace, so capture cannot be proven: bring its network up',
    );
  }
  return { proven: !findings.failed, lines: findings.lines };
}

function dialsAsProxy(options: CaptureOptions): boolean {
  return process.geteuid?.() === options.proxyUid || process.getegid?.() === options.proxyGid;
}

function checkRules(
  findings: Findings,
  tools: Tools,
  options: CaptureOptions,
  families: readonly Family[],
): void {
  const backends = installedBackends(tools);
  if (backends.length === 0)
    note(findings, 'the rules themselves cannot be read: iptables is not installed here');
  for (const family of backends.length === 0 ? [] : families) {
    const ours: Installed[] = [];
    const unread: string[] = [];
    for (const backend of backends) {
      const found = scan(tools, backend, family);
      if (!found.ok) unread.push(`${backend.programs[family]}: ${found.complaint}`);
      else if (!isNothing(found.table)) ours.push({ backend, table: found.table });
    }
    // Rules may be in what cannot be read: then only the connection can tell.
    if (ours.length > 0 || unread.length === 0) checkFamily(findings, options, family, ours);
    else note(findings, `IPv${family}: the rules themselves cannot be read (${unread.join('; ')})`);
  }
}

function checkFamily(
  findings: Findings,
  options: CaptureOptions,
  family: Family,
  ours: readonly Installed[],
): void {
  if (ours.length === 0) {
    fail(findings, `IPv${family}: no rules of Ferrule are installed: run \`ferrule init\``);
    return;
  }
  if (ours.length > 1) {
    const programs = ours.map(({ backend }) => backend.programs[family]).join(' and ');
    fail(findings, `IPv${family}: rules are installed twice, in ${programs}: run \`ferrule init\` once more`);
  }
  for (const { backend, table } of ours) {
    const program = backend.programs[family];
    const wrong = differences(stateOf(captureRules(options, family)), table);
    for (const sentence of wrong) fail(findings, `IPv${family}, ${program}: ${sentence}`);
    if (wrong.length > 0) continue;
    pass(findings, `IPv${family}: every rule is in place (${program})`);
    const packets = [...table.packets].filter(([name]) => name.startsWith('ferrule/inbound-redirect'));
    const count = packets.reduce((sum, [, packet]) => sum + packet, 0);
    note(
      findings,
      `IPv${family} inbound: ${count} connections redirected so far (counters of ${INBOUND_CHAIN}); not proven by a ` +
        'connection, because one from outside cannot be made from inside',
    );
  }
}

function report(findings: Findings, family: Family, options: CaptureOptions, result: ProbeResult): void {
  const what = `IPv${family} outbound`;
  if (result.kind === 'captured') {
    findings.captured = true;
    const who = result.by === 'proxy' ? 'the proxy that listens there' : 'this check';
    pass(
      findings,
      `${what}: a connection to ${result.destination} arrived at port ${options.outboundPort} (${who})`,
    );
  } else if (result.kind === 'no-route') {
    note(findings, `${what}: no route leads out of this network namespace, nothing to capture`);
  } else if (result.kind === 'missed') {
    const hint =
      'the rules above, or another program that handles packets before iptables (eBPF, nft), are the cause';
    fail(
      findings,
      `${what}: a connection to ${result.destination} was not captured: ${result.reason}; ${hint}`,
    );
  } else {
    fail(findings, `${what}: cannot be proven: ${result.reason}`);
  }
}

function pass(findings: Findings, text: string): void {
  findings.lines.push(`ok    ${text}`);
}

function note(findings: Findings, text: string): void {
  findings.lines.push(`note  ${text}`);
}

function fail(findings: Findings, text: string): void {
  findings.failed = true;
  findings.lines.push(`FAIL  ${text}`);
}
