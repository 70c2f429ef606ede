/** Drives tls-peer.py, the independent peer of the mesh, from tests. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';

const PROGRAM = fileURLToPath(new URL('tls-peer.py', import.meta.url));

/** How long a fact of the program may take, in ms: above its own deadline of 20 s, so that it tells its story first. */
const FACT_MS = 30_000;

/** How the peer behaves; every path is that of a PEM file. */
export interface TlsPeerOptions {
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly ca?: string;
  readonly alpn?: readonly string[];
  /** Takes any certificate, and as a server asks for none. */
  readonly trustAnyone?: boolean;
  /** Speaks TLS 1.2 and nothing else. */
  readonly tls12?: boolean;
  /** The one key exchange curve it has, in OpenSSL's words (`prime256v1`). */
  readonly curve?: string;
  /** Seconds a connection may take; 20 by default. */
  readonly timeout?: number;
  /**
   * `stall`: half a ClientHello, or no answer to one. `plaintext`: no TLS at all. `truncate`: ends without close_notify once
   * everything came (client) or something was echoed (server). `oversized-hello`: announces 100000 bytes (client).
   */
  readonly misbehave?: 'stall' | 'plaintext' | 'truncate' | 'oversized-hello';
}

/** How a client behaves. */
export interface TlsClientOptions extends TlsPeerOptions {
  readonly host?: string;
  readonly sni?: string;
  /** What it sends behind the header; nothing by default. */
  readonly send?: string | Uint8Array;
  /** Bytes it waits for before it closes; as many as it sends by default. `end`: it never closes first. */
  readonly expect?: number | 'end';
  /** Closes its direction when everything is sent. */
  readonly halfClose?: boolean;
  /** Does not compare the server's DNS names with the SNI; the chain is verified nevertheless. */
  readonly anyName?: boolean;
  readonly header?: { readonly port: number; readonly name?: string; readonly session?: 'http1' | 'http2' };
  /** Spreads the ClientHello over TLS records of that many bytes. */
  readonly recordBytes?: number;
  /** Writes the ClientHello that many bytes at a time. */
  readonly segmentBytes?: number;
}

/** What the peer saw of one connection. */
export interface TlsPeerReport {
  /** The handshake succeeded, as far as this side knows: with TLS 1.3 a client learns later that it was refused. */
  readonly secured: boolean;
  /**
   * `refused`: the certificate of the other side, for the reason in `error`. `tls-error`: an alert or worse, OpenSSL's reason in
   * `error`. `eof`: without close_notify. `truncated`: it did so itself.
   */
  readonly ended:
    | 'close_notify'
    | 'eof'
    | 'reset'
    | 'refused'
    | 'tls-error'
    | 'timeout'
    | 'truncated'
    | 'malformed';
  readonly error?: string;
  readonly version?: string;
  readonly cipher?: string;
  /** Null where this Python cannot tell. */
  readonly group?: string | null;
  readonly alpn?: string | null;
  /** Names of the other side's certificate, as `['DNS', 'a.example']` or `['URI', 'spiffe://…']`. */
  readonly sans?: readonly (readonly [string, string])[];
  readonly resumed?: boolean;
  /** What a client asked for (server only). */
  readonly sni?: string | null;
  /** The transport header (server only); null when none was negotiated. */
  readonly header?: {
    readonly port: number;
    readonly name: string | null;
    readonly session: string | null;
  } | null;
  /** What came before TLS began, where the peer misbehaves: one character per byte. */
  readonly raw?: string;
  /** Bytes of application data received, and the first 4096 of them: one character per byte. */
  readonly bytes: number;
  readonly data: string;
}

/** A running server. */
export interface TlsPeerServer {
  readonly port: number;
  /** The report of the connection that ended next, in the order of their ends. */
  next(): Promise<TlsPeerReport>;
}

/**
 * Starts a server that echoes; it ends with the test.
 * @param python what `requirePeer(t, 'python3')` found
 */
export async function startTlsServer(
  t: Test,
  python: string,
  options: TlsPeerOptions,
  host = '127.0.0.1',
): Promise<TlsPeerServer> {
  const child = start(t, python, ['server', host, '0', ...argumentsOf(options)]);
  child.stdin.end();
  const facts = createInterface(child.stdout)[Symbol.asyncIterator]();
  const { listening } = (await nextFact(child, facts)) as { listening: number };
  return { port: listening, next: async () => (await nextFact(child, facts)) as TlsPeerReport };
}

/** Runs a client to its end. */
export async function runTlsClient(
  t: Test,
  python: string,
  port: number,
  options: TlsClientOptions,
): Promise<TlsPeerReport> {
  const { host = '127.0.0.1', send = '' } = options;
  const child = start(t, python, ['client', host, String(port), ...argumentsOf(options)]);
  // A client that is refused early may be gone before it has read everything; its report says so.
  child.stdin.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
  child.stdin.end(send);
  const facts = createInterface(child.stdout)[Symbol.asyncIterator]();
  return (await nextFact(child, facts)) as TlsPeerReport;
}

function start(t: Test, python: string, args: readonly string[]): ChildProcessWithoutNullStreams {
  const child = spawn(python, ['-B', PROGRAM, ...args]);
  child.stderr.setEncoding('utf8').on('data', (text: string) => t.comment(`tls-peer.py: ${text}`));
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  });
  return child;
}

async function nextFact(
  child: ChildProcessWithoutNullStreams,
  facts: AsyncIterator<string>,
): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`tls-peer.py said nothing for ${FACT_MS} ms`)), FACT_MS);
  });
  try {
    const { value, done } = await Promise.race([facts.next(), late]);
    if (done) throw new Error(`tls-peer.py ended without a report (status ${child.exitCode})`);
    return JSON.parse(value);
  } finally {
    clearTimeout(timer);
  }
}

function argumentsOf(options: TlsClientOptions): string[] {
  const args: string[] = [];
  const text = (name: string, value: string | number | undefined): void => {
    if (value !== undefined) args.push(`--${name}`, String(value));
  };
  const flag = (name: string, on: boolean | undefined): void => {
    if (on) args.push(`--${name}`);
  };
  text('cert', options.cert);
  text('key', options.key);
  text('ca', options.ca);
  text('sni', options.sni);
  text('curve', options.curve);
  text('timeout', options.timeout);
  text('misbehave', options.misbehave);
  text('record-bytes', options.recordBytes);
  text('segment-bytes', options.segmentBytes);
  text('header-port', options.header?.port);
  text('header-name', options.header?.name);
  text('header-session', options.header?.session);
  if (typeof options.expect === 'number') text('expect', options.expect);
  flag('until-end', options.expect === 'end');
  flag('half-close', options.halfClose);
  flag('any-name', options.anyName);
  flag('trust-anyone', options.trustAnyone);
  flag('tls12', options.tls12);
  for (const protocol of options.alpn ?? []) args.push('--alpn', protocol);
  return args;
}
