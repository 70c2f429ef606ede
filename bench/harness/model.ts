/** What peers and scenarios are made of, and what a run of them yields. */

/** Where a peer listens and where it sends everything; both on 127.0.0.1. */
export interface Route {
  readonly listenPort: number;
  readonly backendPort: number;
  /** All replicas of the backend; `backendPort` is the first. */
  readonly backendPorts: readonly number[];
  /** A free port for whatever else the peer wants to serve. */
  readonly adminPort: number;
  /** A folder of its own, readable and writable for it, removed afterwards. */
  readonly folder: string;
  /** The path of a program that `Peer.tools` names. */
  tool(name: string): string;
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

/** One end of a mutual TLS connection. P-256, issued for this run. */
export interface Identity {
  /** The DNS name in its certificate, which is also the server name (SNI) under which it is dialled. */
  readonly dns: string;
  /** The SPIFFE ID in its certificate. */
  readonly spiffe: string;
  /** PEM. */
  readonly certificate: string;
  /** PEM, PKCS #8, not encrypted. */
  readonly key: string;
  /** The authority it trusts, PEM. */
  readonly trustAnchors: string;
}

/** Who takes part in a mutual TLS connection, and who must not. */
export interface Identities {
  readonly client: Identity;
  readonly server: Identity;
  /** The right authority, but neither client nor server. */
  readonly stranger: Identity;
  /** The names of the server, from an authority that nobody trusts. */
  readonly impostor: Identity;
}

/**
 * What is between client and backend. `one`: a proxy of TCP. `pair`: two with mutual TLS between them. `http`, `httpPair`: the same of
 * HTTP/1, which look at requests and share connections. `balance`: one of HTTP/1 that shares requests among all replicas. `h2`, `h2Pair`:
 * one, and two with mutual TLS between them, of HTTP/2. `httpOverH2`: two with HTTP/1 outside and HTTP/2 between them.
 */
export const LAYOUTS = ['one', 'pair', 'http', 'httpPair', 'balance', 'h2', 'h2Pair', 'httpOverH2'] as const;

/** One of them. */
export type Layout = (typeof LAYOUTS)[number];

/**
 * What every pair has to agree on: it is the cheapest cipher with instructions of its own in the CPU, so that nobody loses by a more
 * expensive one, and ferrule's choice.
 */
export const CIPHER = 'TLS_AES_128_GCM_SHA256';

/** Two proxies of a kind: the client's takes plaintext and dials the server's with mutual TLS, which passes plaintext on. */
export interface PairLaunch {
  client(route: Route, own: Identity, server: Identity): Launch;
  server(route: Route, own: Identity, client: Identity): Launch;
  /** What the two must agree on, by the name of the TLS group. */
  readonly group: 'X25519' | 'X25519MLKEM768';
  /** What the client's offers and the server's wants by ALPN to speak HTTP/2; undefined where they use none. */
  readonly alpn?: 'h2';
  /** Its client cannot be told not to resume sessions. No pair that does may take part where handshakes are counted. */
  readonly resumes?: true;
}

/** One proxy with one set of settings. Each is a file in `bench/peers/`. */
export interface Peer {
  readonly name: string;
  readonly description: string;
  /**
   * `subject`: the proxy the benchmark is about. `rival`: what it is compared with. `control`: no proxy at all, or the least that
   * can do the work, to show what the machine, the generator, the backend and the libraries cost by themselves.
   */
  readonly role: 'subject' | 'rival' | 'control';
  /** Looks for the program. Cheap; called once per run. */
  probe(): Probe;
  /** What it needs from `bench/load/`, compiled before it is started. */
  readonly tools?: readonly string[];
  /** How one of it is started. Must not touch the machine. Undefined: it takes no part in that layout. */
  readonly one?: (route: Route) => Launch;
  /** How two of it are started. Must not touch the machine. Undefined as above. */
  readonly pair?: PairLaunch;
  /** As `one`, for HTTP/1. */
  readonly http?: (route: Route) => Launch;
  /** As `pair`, for HTTP/1. */
  readonly httpPair?: PairLaunch;
  /** As `http`, with several replicas. */
  readonly balance?: (route: Route) => Launch;
  /** As `one`, for HTTP/2 without TLS and with prior knowledge on both sides. */
  readonly h2?: (route: Route) => Launch;
  /** As `pair`, for the same. */
  readonly h2Pair?: PairLaunch;
  /** As `httpPair`, for HTTP/2 between the two. */
  readonly httpOverH2?: PairLaunch;
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
  /** In the unit of the case; lower is better. Undefined where there is no proxy, which costs nothing. */
  readonly value: number | undefined;
  /** CPU time of all processes of the proxy during the load, in seconds. */
  readonly cpuSeconds: number | undefined;
  /** The same of each proxy of a pair, the client's first; undefined for one alone. */
  readonly cpuSecondsOfPair?: readonly number[] | undefined;
  /** Units of work per second, in `Case.throughputUnit`. */
  readonly throughput: number | undefined;
  readonly latencyMs: LatencyMs | undefined;
  readonly memoryKb: MemoryKb | undefined;
}

/** What a case has to reach. */
export type Target =
  /** Of the median paired ratio to the best rival, at most. */
  | { readonly kind: 'ratio'; readonly atMost: number }
  /** The median is no more than the greatest of the best rival's rounds: what a tail as noisy as its own can show. */
  | { readonly kind: 'spread' }
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

/** A proxy that was started beside those of the turn. */
export interface ExtraProxy {
  readonly port: number;
  stop(): Promise<void>;
}

/** The connection between the two proxies of a pair. */
export interface Hop {
  /** Where the server's proxy listens. */
  readonly port: number;
  readonly backendPort: number;
  readonly identities: Identities;
  readonly group: PairLaunch['group'];
  readonly alpn: PairLaunch['alpn'];
  readonly resumes: boolean;
  /** Starts another proxy as the client's, which dials a port of the caller's choice. */
  startClient(port: number): Promise<ExtraProxy>;
}

/** The proxy of one turn, started; both of them, where two are between client and backend. */
export interface RunningProxy {
  /** Where to send the load. The backend's own port where there is no proxy. */
  readonly port: number;
  /** CPU time of each so far, in seconds, the client's first; undefined where there is no proxy. */
  cpuSeconds(): readonly number[] | undefined;
  /** Undefined where there is no proxy. */
  memory(): MemoryKb | undefined;
  /** Undefined where there are not two. */
  readonly hop: Hop | undefined;
  /** Throws with its last words when the proxy has ended. */
  check(): void;
}

/** What a scenario may do within one turn. */
export interface Turn {
  /** How long the measured load lasts. */
  readonly seconds: number;
  /** Starts the proxy and returns when the process runs, which is before it listens. */
  spawnProxy(): Promise<RunningProxy>;
  /**
   * Starts the proxy and returns when it accepts connections; each call starts one more.
   * @param backendPorts where it sends everything, a pair to the first; to the whole backend of the scenario unless given
   */
  startProxy(backendPorts?: readonly number[]): Promise<RunningProxy>;
}

/** A scenario with its backend running. Closed by the harness, which ends all processes. */
export interface OpenScenario {
  readonly backendPort: number;
  /** All replicas, `backendPort` first; there is one unless given. */
  readonly backendPorts?: readonly number[];
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
  readonly layout: Layout;
  /** Whether controls say anything in it. */
  readonly hasControl: boolean;
  readonly cases: readonly Case[];
  open(workshop: Workshop): Promise<OpenScenario>;
}
