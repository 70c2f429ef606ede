/** Interleaved rounds of every peer through every case of a scenario. */

import { chmodSync, chownSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { groupCpuSeconds, groupMemory } from './accounting.ts';
import { Job } from './job.ts';
import { freePort, proxyUser } from './machine.ts';
import type { Case, Launch, Measurement, OpenScenario, Peer, RunningProxy, Turn } from './model.ts';
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

/** Makes the turns of one case: the proxy gets a folder and ports of its own, and is ended when the turn is. */
export function turnRunner(scenario: OpenScenario, one: Case, seconds: number, runFolder: string): RunTurn {
  return async (peer) => {
    const folder = join(runFolder, 'turn');
    const route = {
      listenPort: await freePort(),
      adminPort: await freePort(),
      backendPort: scenario.backendPort,
      folder,
    };
    const launch = peer.launch(route);
    if (launch !== undefined) prepareFolder(folder, launch.files);
    const proxy = new TurnProxy(launch, route.listenPort, scenario.backendPort, folder);
    const turn: Turn = {
      seconds,
      spawnProxy: () => proxy.spawn(false),
      startProxy: () => proxy.spawn(true),
    };
    try {
      return await scenario.measure(one.name, turn);
    } finally {
      await proxy.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  };
}

/** The proxy of one turn, from nothing to its end. */
class TurnProxy {
  private readonly launch: Launch | undefined;
  private readonly listenPort: number;
  private readonly backendPort: number;
  private readonly folder: string;
  private job: Job | undefined;

  constructor(launch: Launch | undefined, listenPort: number, backendPort: number, folder: string) {
    this.launch = launch;
    this.listenPort = listenPort;
    this.backendPort = backendPort;
    this.folder = folder;
  }

  async spawn(waitForPort: boolean): Promise<RunningProxy> {
    if (this.launch === undefined) {
      return {
        port: this.backendPort,
        cpuSeconds: () => undefined,
        memory: () => undefined,
        check: () => undefined,
      };
    }
    const { command, args } = this.launch;
    const job = await Job.start(command, args, { cwd: this.folder, user: proxyUser() });
    this.job = job;
    if (waitForPort) await job.waitForPort(this.listenPort);
    return {
      port: this.listenPort,
      cpuSeconds: () => groupCpuSeconds(job.pid),
      memory: () => groupMemory(job.pid),
      check: () => job.check(),
    };
  }

  async stop(): Promise<void> {
    await this.job?.stop();
  }
}

/** Writes the files of a launch so that the proxy's user owns them, whatever the umask. */
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
