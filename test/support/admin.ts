/** Admin servers for tests: a context that remembers, and every back end that loads here. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import {
  type AdminContext,
  type AdminOptions,
  type AdminServer,
  startAdmin,
} from '../../proxy/admin/admin.ts';
import type { AdminBackend, AdminHandler } from '../../proxy/admin/backend.ts';
import { NodeBackend } from '../../proxy/admin/node-server.ts';
import { UwsBackend } from '../../proxy/admin/uws-server.ts';
import { parseSocketAddress, type SocketAddress } from '../../proxy/core/address.ts';
import { UserError } from '../../proxy/core/errors.ts';
import type { LogLevel } from '../../proxy/core/log.ts';
import type { Explanation } from '../../proxy/model/explanation.ts';

/** A context whose answers a test can change. */
export interface TestContext extends AdminContext {
  reasons: string[];
  level: LogLevel;
  shutDowns: number;
  applications: number;
  exposition: () => Promise<string>;
  decisions: readonly Explanation[];
}

export function createContext(env: NodeJS.ProcessEnv = {}): TestContext {
  const context: TestContext = {
    reasons: [],
    level: 'info',
    shutDowns: 0,
    applications: 0,
    exposition: async () => '# HELP up Up\n# TYPE up gauge\nup 1\n',
    decisions: [],
    env,
    readiness: () => ({ ready: context.reasons.length === 0, reasons: context.reasons }),
    metrics: () => context.exposition(),
    config: () => ({ workload: { namespace: 'default' } }),
    getLogLevel: () => context.level,
    setLogLevel: (level) => {
      context.level = level;
    },
    shutDown: () => {
      context.shutDowns++;
    },
    applicationStarted: () => {
      context.applications++;
      return () => {
        context.applications--;
      };
    },
    explain: async (id) => {
      const found = context.decisions.filter((each) => id === undefined || each.id === id);
      if (id !== undefined && found.length === 0) throw new UserError(`nothing is known of ${id}`);
      return found;
    },
  };
  return context;
}

/** The back ends that load on this machine; `skipped` says why uWebSockets.js is not among them. */
export async function loadBackends(): Promise<{
  backends: Map<AdminBackend['name'], (handler: AdminHandler) => Promise<AdminBackend>>;
  skipped: string | undefined;
}> {
  const backends = new Map<AdminBackend['name'], (handler: AdminHandler) => Promise<AdminBackend>>();
  backends.set('node:http', async (handler) => new NodeBackend(handler));
  // In a variable, because the type checker must not look for a package that is normally absent.
  const name: string = 'uWebSockets.js';
  try {
    const module = ((await import(name)) as { default: unknown }).default;
    backends.set('uWebSockets.js', async (handler) => new UwsBackend(module, handler));
    return { backends, skipped: undefined };
  } catch (error) {
    return {
      backends,
      skipped: `uWebSockets.js does not load here: ${(error as Error).message.split('\n')[0]}`,
    };
  }
}

/** An address from its text. */
export function at(text: string): SocketAddress {
  return parseSocketAddress(text)!;
}

/** A folder of mode 0700 that goes with the test. */
export function createFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'ferrule-test-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Starts a server on a free loopback port, with its token in a folder of the test; closed with the test. */
export async function start(t: Test, options: Partial<AdminOptions> = {}): Promise<AdminServer> {
  const server = await startAdmin({
    listen: [at('127.0.0.1:0')],
    tokenFile: join(createFolder(t), 'token'),
    context: createContext(),
    ...options,
  });
  t.teardown(() => server.close());
  return server;
}
