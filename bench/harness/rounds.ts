/** Interleaved rounds of every peer through every case of a scenario. */

import { chmodSync, chownSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { groupCpuSeconds, groupMemory } from './accounting.ts';
import { Job } from './job.ts';
import { freePort, proxyUser } from './machine.ts';
import type {
  Case,
  Hop,
  Identities,
  Launch,
  Layout,
  Measurement,
  MemoryKb,
  OpenScenario,
  PairLaunch,
  Peer,
  Route,
  RunningProxy,
  Turn,
} from './model.ts';
import { roundOrder } from './statistics.ts';

/** All rounds of one peer through one case. */
export interface PeerResult {
  readonly peer: string;
  readonly role: Peer['role'];
  /** One per round, in their order; complete unless `failure` is set. */
  readonly measurements: readonly Measurement[];
  /** What was wrong in the first round that failed; there were no more after it. */
  readonly failure: string | undefined;
}

/** How much to measure. */
export interface Effort {
  readonly rounds: number;
  readonly seconds: number;
}

/** One turn: a peer, a case, a round. Throws when anything was not right. */
export type RunTurn = (peer: Peer) => Promise<Measurement>;

/** Told about every turn when it begins and with its end. */
export interface Progress {
  turn(round: number, peer: Peer): void;
  done(outcome: Measurement | Error): void;
}

/**
 * Runs the rounds of one case. Each peer takes each place in the order equally often; one that failed takes no further
 * part.
 */
export async function runRounds(
  peers: readonly Peer[],
  rounds: number,
  runTurn: RunTurn,
  progress: Progress,
): Promise<PeerResult[]> {
  const measurements = new Map<Peer, Measurement[]>(peers.map((peer) => [peer, []]));
  const failures = new Map<Peer, string>();
  for (let round = 0; round < rounds; round++) {
    for (const peer of roundOrder(peers, round)) {
      if (failures.has(peer)) continue;
      progress.turn(round, peer);
      try {
        const measurement = await runTurn(peer);
        measurements.get(peer)!.push(measurement);
        progress.done(measurement);
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        failures.set(peer, `round ${round + 1}: ${error.message}`);
        progress.done(error);
      }
    }
  }
  return peers.map((peer) => ({
    peer: peer.name,
    role: peer.role,
    measurements: measurements.get(peer)!,
    failure: failures.get(peer),
  }));
}

/** What all turns of a scenario share. */
export interface TurnSetting {
  readonly scenario: OpenScenario;
  readonly seconds: number;
  /** A folder of the run. */
  readonly folder: string;
  /** Where a compiled tool lies. */
  tool(name: string): string;
  readonly layout: Layout;
  /** Set: two proxies are between client and backend. */
  readonly identities: Identities | undefined;
}

/** Makes the turns of one case: the proxy gets a folder and ports of its own, and is ended when the turn is. */
export function turnRunner(setting: TurnSetting, one: Case): RunTurn {
  return async (peer) => {
    const folder = join(setting.folder, 'turn');
    mkdirSync(folder, { mode: 0o755 });
    const proxies = new TurnProxies(peer, setting, folder);
    const turn: Turn = {
      seconds: setting.seconds,
      spawnProxy: () => proxies.start(false),
      startProxy: (backendPorts) => proxies.start(true, backendPorts),
    };
    try {
      return await setting.scenario.measure(one.name, turn);
    } finally {
      await proxies.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  };
}

/** The proxies of one turn, from nothing to their end. */
class TurnProxies {
  private readonly peer: Peer;
  private readonly setting: TurnSetting;
  private readonly folder: string;
  private readonly jobs = new Set<Job>();
  private started = 0;

  constructor(peer: Peer, setting: TurnSetting, folder: string) {
    this.peer = peer;
    this.setting = setting;
    this.folder = folder;
  }

  async start(waitForPort: boolean, backendPorts = this.allReplicas()): Promise<RunningProxy> {
    const { identities, layout } = this.setting;
    const launch = this.peer[layout];
    if (launch === undefined) return noProxy(backendPorts[0]);
    if (typeof launch === 'object') return this.startPair(launch, identities!, waitForPort, backendPorts[0]);
    const route = await this.route(`proxy-${this.started++}`, backendPorts);
    return running(route.listenPort, [await this.launch(launch(route), route, waitForPort)], undefined);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.jobs].map((job) => job.stop()));
  }

  private allReplicas(): readonly number[] {
    const { backendPort, backendPorts } = this.setting.scenario;
    return backendPorts ?? [backendPort];
  }

  private async startPair(
    pair: PairLaunch,
    identities: Identities,
    waitForPort: boolean,
    backendPort: number,
  ): Promise<RunningProxy> {
    const { client, server } = identities;
    const behind = await this.route('server', [backendPort]);
    const before = await this.route('client', [behind.listenPort]);
    const jobs = [
      await this.launch(pair.server(behind, server, client), behind, waitForPort),
      await this.launch(pair.client(before, client, server), before, waitForPort),
    ];
    return running(before.listenPort, jobs.toReversed(), {
      port: behind.listenPort,
      backendPort,
      identities,
      group: pair.group,
      alpn: pair.alpn,
      resumes: pair.resumes === true,
      startClient: async (port) => {
        const route = await this.route('extra', [port]);
        const job = await this.launch(pair.client(route, client, server), route, true);
        return { port: route.listenPort, stop: () => job.stop() };
      },
    });
  }

  private async route(name: string, backendPorts: readonly number[]): Promise<Route> {
    return {
      listenPort: await freePort(),
      adminPort: await freePort(),
      backendPort: backendPorts[0],
      backendPorts,
      folder: join(this.folder, name),
      tool: (tool) => this.setting.tool(tool),
    };
  }

  private async launch({ command, args, files }: Launch, route: Route, waitForPort: boolean): Promise<Job> {
    prepareFolder(route.folder, files);
    const job = await Job.start(command, args, { cwd: route.folder, user: proxyUser() });
    this.jobs.add(job);
    if (waitForPort) await job.waitForPort(route.listenPort);
    return job;
  }
}

function noProxy(port: number): RunningProxy {
  return {
    port,
    cpuSeconds: () => undefined,
    memory: () => undefined,
    hop: undefined,
    check: () => undefined,
  };
}

function running(port: number, jobs: readonly Job[], hop: Hop | undefined): RunningProxy {
  return {
    port,
    hop,
    cpuSeconds: () => jobs.map(({ pid }) => groupCpuSeconds(pid)),
    memory: () => sumOf(jobs.map(({ pid }) => groupMemory(pid))),
    check: () => {
      for (const job of jobs) job.check();
    },
  };
}

function sumOf(memories: readonly MemoryKb[]): MemoryKb {
  const sum = (key: keyof MemoryKb) => memories.reduce((total, memory) => total + memory[key], 0);
  return { rss: sum('rss'), pss: sum('pss'), anonymous: sum('anonymous') };
}

/** Makes the folder of a launch and writes its files so that the proxy's user owns them, whatever the umask. */
function prepareFolder(folder: string, files: Launch['files']): void {
  const user = proxyUser();
  const give = (path: string, mode: number) => {
    chmodSync(path, mode);
    if (user !== undefined) chownSync(path, user, user);
  };
  mkdirSync(folder);
  give(folder, 0o755);
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, name);
    if (dirname(path) !== folder) {
      mkdirSync(dirname(path), { recursive: true });
      give(dirname(path), 0o755);
    }
    writeFileSync(path, text);
    give(path, 0o644);
  }
}
