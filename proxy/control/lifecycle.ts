/**
 * How a proxy ends. Its application may end slower than the proxy is told to, and may dial while it does: so the outbound side
 * outlives the inbound side, and both outlive the moment in which /ready starts to say no.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { log } from '../core/log.ts';
import type { Side } from '../model/messages.ts';

/** How often a stopping proxy looks whether something has ended, in ms. */
const POLL_MS = 50;

/**
 * Without word from the application, the outbound side closes after this long without a connection on either side, in ms. An
 * application that pauses longer between two calls of its own shutdown is rare; a pod that ends later for it is every pod.
 */
const QUIET_MS = 2_000;

/** What a shutdown looks at and closes. */
export interface Stoppable {
  /** Sockets open now, on both sides. */
  connections(): number;
  /** Connections accepted since the start; any change is a sign of life. */
  accepted(): number;
  /** Lets clients of these sides know that their connections do not last. */
  draining(sides: readonly Side[]): void;
  /** Stops accepting on a side and closes its listeners. */
  unlisten(side: Side): Promise<void>;
}

/** Durations of a shutdown, in ms from the order to stop. */
export interface ShutdownTimes {
  /** Inbound accepts until then; at most `graceMs`. */
  readonly drainDelayMs: number;
  /** What is still open then is reset. */
  readonly graceMs: number;
}

/** Orders to stop, and the applications that ask us to wait for them. */
export class Lifecycle {
  /** Applications started by `ferrule await` that run now. */
  applications = 0;
  /** Resolves with the cause of the first order. */
  readonly ordered: Promise<string>;
  /** Aborted by the second signal: end at once. */
  readonly forced: AbortSignal;
  private readonly order: (cause: string) => void;
  private readonly force = new AbortController();
  private readonly names: readonly NodeJS.Signals[];
  private cause: string | undefined;
  private signals = 0;

  /** @param signals the names that order a stop, from now on */
  constructor(signals: readonly NodeJS.Signals[]) {
    const { promise, resolve } = Promise.withResolvers<string>();
    this.ordered = promise;
    this.order = resolve;
    this.forced = this.force.signal;
    this.names = signals;
    for (const name of signals) process.on(name, this.onSignal);
  }

  /** True from the first order on. */
  get stopping(): boolean {
    return this.cause !== undefined;
  }

  /** Orders a stop; only the first order counts. `cause` is for the log. */
  stop(cause: string): void {
    if (this.cause !== undefined) return;
    this.cause = cause;
    this.order(cause);
  }

  /** An application runs until the function returned is called. */
  applicationStarted(): () => void {
    this.applications++;
    log.info('an application is waited for', { applications: this.applications });
    return () => {
      this.applications--;
      log.info('an application has ended', { applications: this.applications });
    };
  }

  /** Gives the signals back. */
  close(): void {
    for (const name of this.names) process.off(name, this.onSignal);
  }

  /** Only signals force: whoever posts to /shutdown twice, or is followed by the SIGTERM of the pod's end, means no harm. */
  private readonly onSignal = (signal: NodeJS.Signals): void => {
    this.stop(signal);
    if (++this.signals > 1) this.force.abort();
  };
}

/**
 * Closes a proxy side by side: inbound after `drainDelayMs`; outbound when the application has ended, or when none has told us that
 * it runs and nothing was connected for two seconds. Resolves when no connection is left, when `graceMs` are over, or on force.
 */
export async function drain(proxy: Stoppable, lifecycle: Lifecycle, times: ShutdownTimes): Promise<void> {
  const over = AbortSignal.any([lifecycle.forced, AbortSignal.timeout(times.graceMs)]);
  if (over.aborted) return;
  // Raced, because a worker that hangs would never let go of its listeners.
  const cut = new Promise<void>((resolve) => over.addEventListener('abort', () => resolve(), { once: true }));
  await Promise.race([closeSides(proxy, lifecycle, times.drainDelayMs, over), cut]);
}

async function closeSides(
  proxy: Stoppable,
  lifecycle: Lifecycle,
  drainDelayMs: number,
  over: AbortSignal,
): Promise<void> {
  const awaited = lifecycle.applications > 0;
  const inboundEndMs = performance.now() + drainDelayMs;
  proxy.draining(['inbound']);
  await poll(() => performance.now() >= inboundEndMs, over);
  if (over.aborted) return;
  await proxy.unlisten('inbound');
  log.info('inbound closed', { connections: proxy.connections() });
  // An application that keeps a connection for its next request would keep us; it can open another one.
  proxy.draining(['inbound', 'outbound']);
  await poll(outboundEnd(proxy, lifecycle, awaited), over);
  if (over.aborted) return;
  await proxy.unlisten('outbound');
  log.info('outbound closed', { connections: proxy.connections() });
  await poll(() => proxy.connections() === 0, over);
}

/** @param awaited an application was known to run when the order came */
function outboundEnd(proxy: Stoppable, lifecycle: Lifecycle, awaited: boolean): () => boolean {
  let known = awaited;
  let accepted = proxy.accepted();
  /** The first look that found nothing: a connection may have ended later than the last one that did. */
  let quietSinceMs: number | undefined;
  return () => {
    const running = lifecycle.applications > 0;
    known ||= running;
    if (known) return !running;
    // The count tells also what came and went between two looks.
    const busy = proxy.connections() > 0 || proxy.accepted() !== accepted;
    accepted = proxy.accepted();
    quietSinceMs = busy ? undefined : (quietSinceMs ?? performance.now());
    return quietSinceMs !== undefined && performance.now() - quietSinceMs >= QUIET_MS;
  };
}

async function poll(done: () => boolean, over: AbortSignal): Promise<void> {
  while (!over.aborted && !done()) await sleep(POLL_MS);
}
