/** `npm run bench`: scenarios × peers × rounds, and the report. */

import { writeFileSync } from 'node:fs';
import { EXIT, UserError } from '../proxy/core/errors.ts';
import { PEERS, SCENARIOS } from './catalog.ts';
import { toSvg } from './harness/chart.ts';
import { killAllJobs, stopAllJobs } from './harness/job.ts';
import { findProgram, generatorVersions, machineVersions } from './harness/machine.ts';
import {
  type Case,
  LAYOUTS,
  type Layout,
  type Measurement,
  type Peer,
  type Scenario,
} from './harness/model.ts';
import { type BenchOptions, parseOptions, USAGE } from './harness/options.ts';
import {
  type CaseReport,
  hasFailure,
  type Report,
  type ScenarioReport,
  toJson,
  toMarkdown,
} from './harness/report.ts';
import { type Progress, runRounds, type TurnSetting, turnRunner } from './harness/rounds.ts';
import { digits, summarise } from './harness/summary.ts';
import { RunFolder } from './harness/workshop.ts';

/** 128 + the number of the signal, as shells report it. */
const INTERRUPTED = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** They need identities. */
const PAIRS: ReadonlySet<Layout> = new Set(['pair', 'httpPair', 'h2Pair', 'httpOverH2']);

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  process.stderr.write(`bench: ${error.message}\n`);
  process.exitCode = error.exitCode;
}

async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args, { scenarios: namesOf(SCENARIOS), peers: namesOf(PEERS) });
  if (options.help || options.list) {
    process.stdout.write(options.help ? USAGE : catalog());
    return EXIT.ok;
  }
  const run = new RunFolder();
  // The one way out for everything: also after a signal, an error, a bug.
  process.on('exit', () => {
    killAllJobs();
    run.remove();
  });
  for (const [signal, status] of Object.entries(INTERRUPTED)) process.on(signal, () => process.exit(status));
  const report = await runAll(options, run);
  writeReport(report, options);
  return hasFailure(report) ? EXIT.failure : EXIT.ok;
}

async function runAll(options: BenchOptions, run: RunFolder): Promise<Report> {
  const startedAt = new Date().toISOString();
  const { peers, missing, versions } = choosePeers(options.peers);
  for (const { peer, reason } of missing) log(`without ${peer}: ${reason}\n`);
  const chosen = SCENARIOS.filter(({ name }) => options.scenarios?.includes(name) ?? true);
  const programs = new Set(chosen.flatMap((scenario) => scenario.programs));
  const scenarios: ScenarioReport[] = [];
  for (const scenario of chosen) scenarios.push(await runScenario(scenario, peers, options, run));
  return {
    startedAt,
    effort: { rounds: options.rounds, seconds: options.seconds },
    versions: [...new Set([...machineVersions(), ...versions, ...generatorVersions(programs)])],
    missing,
    scenarios,
  };
}

function choosePeers(asked: readonly string[] | undefined) {
  const peers: Peer[] = [];
  const missing: { peer: string; reason: string }[] = [];
  const versions: string[] = [];
  for (const peer of PEERS.filter(({ name }) => asked?.includes(name) ?? true)) {
    const probe = peer.probe();
    if (probe.found) {
      peers.push(peer);
      versions.push(...probe.versions);
    } else if (asked === undefined) {
      missing.push({ peer: peer.name, reason: probe.reason });
    } else {
      throw new UserError(`--peer ${peer.name}: ${probe.reason}`, EXIT.unavailable);
    }
  }
  return { peers, missing, versions };
}

async function runScenario(
  scenario: Scenario,
  peers: readonly Peer[],
  options: BenchOptions,
  run: RunFolder,
): Promise<ScenarioReport> {
  const { name, description } = scenario;
  const report = (skipped: string | undefined, cases: readonly CaseReport[]) => {
    if (skipped !== undefined) log(`${name} does not run: ${skipped}\n`);
    return { name, description, skipped, cases };
  };
  const taking = peers.filter((peer) => takesPart(peer, scenario));
  const absent = scenario.programs.filter((program) => findProgram(program) === undefined);
  if (absent.length > 0) return report(`needs ${absent.join(', ')}`, []);
  let setting: TurnSetting;
  try {
    for (const tool of taking.flatMap(({ tools }) => tools ?? [])) await run.tool(tool);
    setting = {
      scenario: await scenario.open(run.workshop(name, options.connections)),
      seconds: options.seconds,
      folder: run.path,
      tool: (tool) => run.toolPath(tool),
      layout: scenario.layout,
      identities: PAIRS.has(scenario.layout) ? await run.identities() : undefined,
    };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    await stopAllJobs();
    return report(error.message, []);
  }
  const cases: CaseReport[] = [];
  for (const one of scenario.cases) cases.push(await runCase(name, one, setting, taking, options.rounds));
  await stopAllJobs();
  return report(undefined, cases);
}

/** Whether a peer can be what is between client and backend. One that is no process at all can be anywhere. */
function takesPart(peer: Peer, { layout, hasControl }: Scenario): boolean {
  if (peer.role === 'control' && !hasControl) return false;
  return peer[layout] !== undefined || LAYOUTS.every((other) => peer[other] === undefined);
}

async function runCase(
  scenario: string,
  one: Case,
  setting: TurnSetting,
  peers: readonly Peer[],
  rounds: number,
): Promise<CaseReport> {
  const results = await runRounds(peers, rounds, turnRunner(setting, one), progress(scenario, one, rounds));
  const summary = summarise(one, results);
  log(`${scenario} ${one.name}: ${summary.verdict.status}: ${summary.verdict.text}\n`);
  return { summary, results };
}

function progress(scenario: string, one: Case, rounds: number): Progress {
  return {
    turn: (round, peer) => log(`${scenario} ${one.name} ${round + 1}/${rounds} ${peer.name.padEnd(20)} `),
    done: (outcome) =>
      log(`${outcome instanceof Error ? `FAILED: ${outcome.message}` : told(one, outcome)}\n`),
  };
}

function told(one: Case, { value, throughput }: Measurement): string {
  const parts = [
    value === undefined ? undefined : `${digits(value)} ${one.unit}`,
    throughput === undefined ? undefined : `${digits(throughput)} ${one.throughputUnit}`,
  ];
  return parts.filter((part) => part !== undefined).join(', ');
}

function writeReport(report: Report, { json, markdown, svg }: BenchOptions): void {
  process.stdout.write(toMarkdown(report));
  if (json !== undefined) writeFileSync(json, toJson(report));
  if (markdown !== undefined) writeFileSync(markdown, toMarkdown(report));
  if (svg !== undefined) writeFileSync(svg, toSvg(report));
}

function catalog(): string {
  const probed = (peer: Peer) => {
    const probe = peer.probe();
    return probe.found ? '' : ` [${probe.reason}]`;
  };
  const lines = [
    'scenarios',
    ...SCENARIOS.map(({ name, description }) => `  ${name.padEnd(20)} ${description}`),
    'peers',
    ...PEERS.map((peer) => `  ${peer.name.padEnd(20)} ${peer.description}${probed(peer)}`),
  ];
  return `${lines.join('\n')}\n`;
}

function namesOf(items: readonly { readonly name: string }[]): string[] {
  return items.map(({ name }) => name);
}

function log(text: string): void {
  process.stderr.write(text);
}
