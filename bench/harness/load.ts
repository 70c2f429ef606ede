/** One measured load: verify, warm up, measure, verify. The shape of every scenario that pays with CPU time. */

import { type Inside, verifyHop } from './hop.ts';
import type { LatencyMs, Measurement, RunningProxy, Turn } from './model.ts';

/** What a generator did, all of it right. */
export interface LoadResult {
  /** Units of work done. */
  readonly units: number;
  readonly seconds: number;
  readonly latencyMs: LatencyMs | undefined;
}

/** How one case loads a proxy. Each step throws when anything was not right. */
export interface LoadPlan {
  /** Cost per unit of work is this many times CPU seconds per unit: 1e6 for microseconds. */
  readonly scale: number;
  /** Where the proxy sends everything; to the whole backend of the scenario unless given. */
  readonly backendPorts?: readonly number[];
  /** One short exchange with the backend through a port, for what has to be proved beside the load. */
  exchange(port: number): Promise<void>;
  /** How two proxies speak HTTP/2 with each other when clients and backend do not. */
  readonly inside?: Inside;
  verify(proxy: RunningProxy): Promise<void>;
  /** Not measured: just-in-time compilers, pools and caches settle here. */
  warmUp(proxy: RunningProxy): Promise<void>;
  load(proxy: RunningProxy): Promise<LoadResult>;
}

/** Runs a plan within a turn. The value is CPU time of the whole proxy per unit of work. */
export async function measureLoad(turn: Turn, plan: LoadPlan): Promise<Measurement> {
  const proxy = await turn.startProxy(plan.backendPorts);
  await verifyHop(proxy.hop, plan.exchange, plan.inside);
  await plan.verify(proxy);
  await plan.warmUp(proxy);
  const before = proxy.cpuSeconds();
  const result = await plan.load(proxy);
  const after = proxy.cpuSeconds();
  const memoryKb = proxy.memory();
  await plan.verify(proxy);
  proxy.check();
  const spent = after?.map((seconds, index) => seconds - (before?.[index] ?? 0));
  const cpuSeconds = spent?.reduce((sum, seconds) => sum + seconds, 0);
  return {
    value: cpuSeconds === undefined ? undefined : (cpuSeconds * plan.scale) / result.units,
    cpuSeconds,
    cpuSecondsOfPair: proxy.hop === undefined ? undefined : spent,
    throughput: result.units / result.seconds,
    latencyMs: result.latencyMs,
    memoryKb,
  };
}
