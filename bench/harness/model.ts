/** What peers and scenarios are made of, and what a run of them yields. */

/** Where a peer listens and where it sends everything; both on 127.0.0.1. */
export interface Route {
  readonly listenPort: number;
  readonly backendPort: number;
  /** A free port for whatever else the peer wants to serve. */
  readonly adminPort: number;
  /** A folder of its own, readable and writable for it, removed afterwards. */
  readonly folder: string;
}

/** How a peer is started for one route. */
export interface Launch {
  readonly command: string;
  readonly args: readonly string[];
  /** Written to the route's folder before the start: relative path → text. */
  readonly files: Readonly<Record<string, string>>;
}

/** Whether a peer can run on this machine. */
export type Probe =
  | { readonly found: true /** Programs and libraries with their versions. */; readonly versions: string[] }
  | { readonly found: false; readonly reason: string };

/** One proxy with one set of settings. Each is a file in `bench/peers/`. */
export interface Peer {
  readonly name: string;
  readonly description: string;
  /**
   * `subject`: the proxy the benchmark is about. `rival`: what it is compared with. `control`: no proxy at all, to show what
   * the machine, the generator and the backend can do.
   */
  readonly role: 'subject' | 'rival' | 'control';
  /** Looks for the program. Cheap; called once per run. */
  probe(): Probe;
  /** The start for one route; undefined for a control. Must not touch the machine. */
  launch(route: Route): Launch | undefined;
}

/** Memory of all processes of a proxy, in KiB. */
export interface MemoryKb {
  /** VmRSS; pages that processes share count in each. */
  readonly rss: number;
  /** Shared pages count by share. */
  readonly pss: number;
  /** RssAnon + RssShmem: what the program itself allocated. */
  readonly anonymous: number;
}

/** Milliseconds. */
export interface LatencyMs {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

/** What one turn (one peer, one round, one case) yields. */
export interface Measurement {
  /** In the unit of the case; lower is better. Undefined for a control, which costs nothing. */
  readonly value: number | undefined;
  /** CPU time of all processes of the proxy during the load, in seconds. */
  readonly cpuSeconds: number | undefined;
  /** Units of work per second, in `Case.throughputUnit`. */
  readonly throughput: number | undefined;
  readonly latencyMs: LatencyMs | undefined;
  readonly memoryKb: MemoryKb | undefined;
}

/** What a case has to reach. */
export type Target =
  /** Of the median paired ratio to the best rival, at most. */
  | { readonly kind: 'ratio'; readonly atMost: number }
  /** Of the median, in the unit of the case, at most. */
  | { readonly kind: 'absolute'; readonly atMost: number };

/** One row group of the report. */
export interface Case {
  readonly name: string;
  /** One line. */
  readonly description: string;
  /** What is measured, lower is better: `CPU per GB`. */
  readonly metric: string;
  readonly unit: string;
  /** Undefined where throughput means nothing. */
  readonly throughputUnit: string | undefined;
  /** Undefined: measured, not judged. */
  readonly target: Target | undefined;
}

/** The proxy of one turn, started. */
export interface RunningProxy {
  /** Where to send the load. The backend's own port for a control. */
  readonly port: number;
  /** CPU time so far, in seconds; undefined for a control. */
  cpuSeconds(): number | undefined;
  /** Undefined for a control. */
  memory(): MemoryKb | undefined;
  /** Throws with its last words when the proxy has ended. */
  check(): void;
}

/** What a scenario may do within one turn. */
export interface Turn {
  /** How long the measured load lasts. */
  readonly seconds: number;
  /** Starts the proxy and returns when the process runs, which is before it listens. */
  spawnProxy(): Promise<RunningProxy>;
  /** Starts the proxy and returns when it accepts connections. */
  startProxy(): Promise<RunningProxy>;
}

/** A scenario with its backend running. Closed by the harness, which ends all processes. */
export interface OpenScenario {
  readonly backendPort: number;
  /**
   * Runs one turn of the case. Any answer that is not exactly right, any error the generator counts, throws: it fails
   * the peer, and never becomes a number.
   */
  measure(caseName: string, turn: Turn): Promise<Measurement>;
}

/** What a scenario needs from the run. */
export interface Workshop {
  /** A folder of this run. */
  readonly folder: string;
  /** Compiles `bench/load/NAME.cc` and returns the path of the program. */
  tool(name: string): Promise<string>;
  /** Connections per turn where a scenario counts them and not seconds. */
  readonly connections: number;
}

/** One way to use a proxy. Each is a file in `bench/scenarios/`. */
export interface Scenario {
  readonly name: string;
  readonly description: string;
  /** Programs it needs, by name. */
  readonly programs: readonly string[];
  /** Whether it says anything without a proxy. */
  readonly hasControl: boolean;
  readonly cases: readonly Case[];
  open(workshop: Workshop): Promise<OpenScenario>;
}
