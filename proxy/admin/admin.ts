/** The admin server: readiness, metrics, and what an operator asks of a running proxy. */
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { SocketAddress } from '../core/address.ts';
import { EXIT, UserError } from '../core/errors.ts';
import { LOG_LEVELS, type LogLevel, log } from '../core/log.ts';
import { METRICS_CONTENT_TYPE } from '../metrics/registry.ts';
import type { Explanation } from '../model/explanation.ts';
import {
  type AdminBackend,
  type AdminHandler,
  type AdminRequest,
  type AdminResponse,
  text,
} from './backend.ts';
import { describeEnvironment } from './environment.ts';
import { refuse } from './guard.ts';
import { createBackend, listenOnAll } from './server.ts';
import { type AdminToken, createToken } from './token.ts';

/** What the admin server shows and changes, supplied by main. */
export interface AdminContext {
  /** Whether the proxy can serve; `reasons` say why not, one sentence each. */
  readiness(): { readonly ready: boolean; readonly reasons: readonly string[] };
  /** The exposition in Prometheus' text format. */
  metrics(): Promise<string>;
  /** The configuration in force, secrets redacted; plain data. */
  config(): unknown;
  readonly env: NodeJS.ProcessEnv;
  getLogLevel(): LogLevel;
  /** Sets the level of every thread. */
  setLogLevel(level: LogLevel): void;
  /** Makes the proxy stop as SIGTERM does; harmless when it stops already. */
  shutDown(): void;
  /** `ferrule await` has started an application, which runs until the function returned is called. */
  applicationStarted(): () => void;
  /**
   * What was decided for the request of that id, alone, or for the latest ones, newest first.
   * @throws UserError: EXIT.usage when it is no id, EXIT.unavailable when nobody can tell now, else nothing is known of it
   */
  explain(id: string | undefined): Promise<readonly Explanation[]>;
}

/** How to start the admin server. */
export interface AdminOptions {
  /** May be empty: then there is no server and no token. */
  readonly listen: readonly SocketAddress[];
  /** Absolute path; undefined lets the server choose, see `tokenFileCandidates`. */
  readonly tokenFile: string | undefined;
  readonly context: AdminContext;
  /** Which HTTP server to use; the best that loads by default. */
  readonly backend?: (handler: AdminHandler) => Promise<AdminBackend>;
}

/** A running admin server. */
export interface AdminServer {
  /** Where it listens, with the ports taken; IPv6 first. */
  readonly addresses: readonly SocketAddress[];
  readonly tokenFile: string | undefined;
  readonly backend: AdminBackend['name'];
  /** Stops listening, lets answers under way end for a second, removes the token. */
  close(): Promise<void>;
}

type Method = 'GET' | 'POST';

/** One page. */
interface Route {
  /** True when it answers to anybody; all others ask for loopback and the token. */
  readonly open: boolean;
  readonly methods: Readonly<Partial<Record<Method, (request: AdminRequest) => Promise<AdminResponse>>>>;
}

/**
 * Starts the admin server.
 * @throws UserError (EXIT.os) when an address or the token file cannot be had; nothing is left listening then
 */
export async function startAdmin(options: AdminOptions): Promise<AdminServer> {
  const { listen, tokenFile, context } = options;
  const routes = createRoutes(context);
  // Its file is named after the port, so it comes after listening; what needs it is told to wait until then.
  let token: AdminToken | undefined;
  const backend = await (options.backend ?? createBackend)(
    answering((request) => dispatch(routes, request, token)),
  );
  const addresses = await listenOnAll(backend, listen);
  try {
    if (addresses.length > 0) token = createToken(tokenFile, addresses[0].port, context.env);
  } catch (error) {
    await backend.close();
    throw error;
  }
  for (const address of addresses) log.info('admin server listens', { address: String(address) });
  return {
    addresses,
    tokenFile: token?.file,
    backend: backend.name,
    close: async () => {
      await backend.close();
      token?.remove();
    },
  };
}

/** Headers that every answer has, and an answer for a page that throws. */
function answering(handler: AdminHandler): AdminHandler {
  return async (request) => {
    try {
      const response = await handler(request);
      const headers = {
        'Cache-Control': 'no-store',
        'X-Content-Type-Options': 'nosniff',
        ...response.headers,
      };
      return { ...response, headers };
    } catch (error) {
      const stack = error instanceof Error ? error.stack : String(error);
      log.error('an admin request failed', { method: request.method, path: request.path, stack });
      return text(500, "internal error: the proxy's log has the reason");
    }
  };
}

async function dispatch(
  routes: ReadonlyMap<string, Route>,
  request: AdminRequest,
  token: AdminToken | undefined,
): Promise<AdminResponse> {
  const route = routes.get(request.path);
  if (route === undefined) {
    return text(404, `not found. There is: ${[...routes.keys()].join(' ')}`);
  }
  if (!route.open) {
    const refusal = token === undefined ? text(503, 'starting') : refuse(request, token);
    if (refusal !== undefined) return refusal;
  }
  // RFC 9110 section 9.3.2: HEAD is GET without the content; the back end leaves it out.
  const serve = route.methods[(request.method === 'HEAD' ? 'GET' : request.method) as Method];
  if (serve !== undefined) return serve(request);
  const allowed = Object.keys(route.methods).flatMap((method) =>
    method === 'GET' ? ['GET', 'HEAD'] : [method],
  );
  return text(405, `${request.path} takes ${allowed.join(', ')} only`, { Allow: allowed.join(', ') });
}

function createRoutes(context: AdminContext): ReadonlyMap<string, Route> {
  const metrics = shareRuns(() => context.metrics());
  return new Map<string, Route>([
    ['/ready', { open: true, methods: { GET: async (request) => readiness(context, request) } }],
    ['/live', { open: true, methods: { GET: async () => text(200, 'live') } }],
    ['/metrics', { open: true, methods: { GET: async (request) => exposition(await metrics(), request) } }],
    ['/config', { open: false, methods: { GET: async () => json(200, context.config()) } }],
    [
      '/env.json',
      {
        open: false,
        methods: { GET: async ({ query }) => json(200, describeEnvironment(context.env, query)) },
      },
    ],
    [
      '/log-level',
      {
        open: false,
        methods: {
          GET: async () => text(200, context.getLogLevel()),
          POST: async ({ body }) => changeLogLevel(context, body.toString().trim()),
        },
      },
    ],
    ['/shutdown', { open: false, methods: { POST: async () => shutDown(context) } }],
    ['/explain', { open: false, methods: { GET: async ({ query }) => explain(context, query) } }],
    ['/await', { open: false, methods: { POST: async () => waitForApplication(context) } }],
  ]);
}

function shutDown(context: AdminContext): AdminResponse {
  context.shutDown();
  return text(202, 'stopping');
}

/** The connection stands for the application: however it ends, SIGKILL included, the kernel closes it. */
function waitForApplication(context: AdminContext): AdminResponse {
  return { ...text(200, 'waiting for the end of this connection'), held: context.applicationStarted() };
}

async function explain(context: AdminContext, query: string): Promise<AdminResponse> {
  const parameters = new URLSearchParams(query);
  const ids = parameters.getAll('id');
  if (ids.length > 1 || parameters.size > ids.length) {
    return text(400, '/explain takes one id, as in /explain?id=0-1234, or nothing, for the latest requests');
  }
  try {
    const found = await context.explain(ids[0]);
    return json(200, ids.length === 0 ? found : found[0]);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const { exitCode, message } = error;
    return text(exitCode === EXIT.usage ? 400 : exitCode === EXIT.unavailable ? 503 : 404, message);
  }
}

function readiness(context: AdminContext, request: AdminRequest): AdminResponse {
  const { ready, reasons } = context.readiness();
  const status = ready ? 200 : 503;
  const accept = request.headers.get('accept')?.join() ?? '';
  if (accept.includes('application/json')) return json(status, { ready, reasons });
  return text(status, ready ? 'ready' : ['not ready', ...reasons].join('\n'));
}

async function exposition(body: string, request: AdminRequest): Promise<AdminResponse> {
  const headers = { 'Content-Type': METRICS_CONTENT_TYPE, Vary: 'Accept-Encoding' };
  if (!acceptsGzip(request.headers.get('accept-encoding')?.join() ?? ''))
    return { status: 200, headers, body };
  // Level 1: an exposition is so repetitive that more effort gains little and costs main's CPU.
  const packed = await promisify(gzip)(body, { level: 1 });
  return { status: 200, headers: { ...headers, 'Content-Encoding': 'gzip' }, body: packed };
}

function changeLogLevel(context: AdminContext, wanted: string): AdminResponse {
  const level = LOG_LEVELS.find((known) => known === wanted);
  if (level === undefined) return text(400, `the body must be one of ${LOG_LEVELS.join(', ')}`);
  const before = context.getLogLevel();
  context.setLogLevel(level);
  log.info('log level changed', { from: before, to: level });
  return text(200, level);
}

function json(status: number, value: unknown): AdminResponse {
  const body = `${JSON.stringify(value, undefined, 2)}\n`;
  return { status, headers: { 'Content-Type': 'application/json' }, body };
}

/** RFC 9110 section 12.5.3: gzip is named and not given the weight 0. */
function acceptsGzip(header: string): boolean {
  return header.split(',').some((item) => {
    const [coding, ...parameters] = item.split(';').map((part) => part.trim().toLowerCase());
    return coding === 'gzip' && !parameters.some((parameter) => /^q=0(\.0{0,3})?$/.test(parameter));
  });
}

/** Calls that come while one is under way get its result: anybody may scrape, nobody may make main render in parallel. */
function shareRuns<T>(run: () => Promise<T>): () => Promise<T> {
  let underWay: Promise<T> | undefined;
  return () => {
    underWay ??= run().finally(() => {
      underWay = undefined;
    });
    return underWay;
  };
}
