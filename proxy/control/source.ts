/**
 * Discovery sources: where targets come from. A source watches on demand, answers at once when it can, and
 * repeats its answer whenever it changes. A source that fails keeps its last good answers and says so in
 * `health`.
 */
import type { TargetKey, TargetSnapshot } from '../model/target.ts';

/** Gives up a watch. Calling it twice is harmless. */
export type Unwatch = () => void;

/** How a source is doing, for `/ready`, metrics and logs. */
export interface SourceHealth {
  /** True once the source has a complete first answer; before that nothing it says is "unknown". */
  readonly synced: boolean;
  /** Milliseconds since the epoch of the last good answer; undefined before the first. */
  readonly lastGoodMs: number | undefined;
  /** What is wrong now, complete for a human; undefined when nothing is. */
  readonly error: string | undefined;
}

/** One place to learn targets from, chosen by the `discovery` list of the configuration. */
export interface DiscoverySource {
  /** For logs and the `source` label: `file:./mesh.d`. */
  readonly name: string;
  readonly health: SourceHealth;
  /**
   * Starts watching. `onAnswer` is called soon (possibly before `watch` returns) once the source is synced,
   * and again on each change with a new frozen snapshot; never called for an unchanged answer.
   */
  watch(target: TargetKey, onAnswer: (snapshot: TargetSnapshot) => void): Unwatch;
  /**
   * Calls back whenever `synced` or `error` of the health changed; the time of the last good answer alone is
   * no change.
   */
  onHealth(listener: () => void): void;
  /** Reads for the first time and starts following changes; resolves after the first attempt, good or bad. */
  start(): Promise<void>;
  /** Ends every watch and releases files and timers. */
  close(): void;
}
