/** From nothing to the first forwarded byte, and what the process holds when nobody uses it. */

import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { UserError } from '../../proxy/core/errors.ts';
import { startHttpBackend, verifyHttp } from '../backends/http.ts';
import type { Measurement, Scenario, Turn } from '../harness/model.ts';
import { settledMemory } from '../harness/settle.ts';

/** The resolution of the result; a refused connect on loopback takes a tenth of it. */
const POLL_MS = 1;
const DEADLINE_MS = 15_000;

const NOTHING_ELSE = {
  cpuSeconds: undefined,
  throughput: undefined,
  latencyMs: undefined,
} as const;

export const scenario: Scenario = {
  name: 'start',
  description: 'process start to first forwarded byte, and anonymous memory at rest',
  programs: ['nginx'],
  layout: 'one',
  hasControl: false,
  cases: [
    {
      name: 'first-byte',
      description: 'from the start of the process until a client has the first byte of an answer',
      metric: 'time to first byte',
      unit: 'ms',
      throughputUnit: undefined,
      target: { kind: 'absolute', atMost: 400 },
    },
    {
      name: 'memory',
      description: 'RssAnon + RssShmem of all processes after the first exchange, at rest',
      metric: 'memory at rest',
      unit: 'MB',
      throughputUnit: undefined,
      target: { kind: 'absolute', atMost: 45 },
    },
  ],
  async open({ folder }) {
    const backend = await startHttpBackend(folder);
    return {
      backendPort: backend.port,
      measure: (name, turn) => (name === 'first-byte' ? measureFirstByte(turn) : measureMemory(turn)),
    };
  },
};

async function measureFirstByte(turn: Turn): Promise<Measurement> {
  const start = performance.now();
  const proxy = await turn.spawnProxy();
  while (!(await hasAnswer(proxy.port))) {
    proxy.check();
    if (performance.now() - start > DEADLINE_MS) throw new UserError(`no answer after ${DEADLINE_MS} ms`);
    await sleep(POLL_MS);
  }
  const value = performance.now() - start;
  await verifyHttp(proxy.port);
  return { ...NOTHING_ELSE, value, memoryKb: proxy.memory() };
}

async function measureMemory(turn: Turn): Promise<Measurement> {
  const proxy = await turn.startProxy();
  await verifyHttp(proxy.port);
  const memoryKb = await settledMemory(proxy);
  return {
    ...NOTHING_ELSE,
    value: memoryKb === undefined ? undefined : (memoryKb.anonymous * 1024) / 1e6,
    memoryKb,
  };
}

/** Whether one request through the port gets a byte back; false while nothing listens. */
async function hasAnswer(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    socket.write('GET / HTTP/1.1\r\nHost: bench\r\n\r\n');
    await once(socket, 'data');
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') return false;
    throw error;
  } finally {
    socket.destroy();
  }
}
