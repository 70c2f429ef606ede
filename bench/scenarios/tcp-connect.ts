/**
 * A new connection for every exchange. The backend closes first and each side after it, so that closed connections wait
 * (TIME_WAIT) where listeners are, and clients never run out of ports.
 */

import { UserError } from '../../proxy/core/errors.ts';
import { startHttpBackend, verifyHttp } from '../backends/http.ts';
import { runClient } from '../harness/client.ts';
import { measureLoad } from '../harness/load.ts';
import type { Case, OpenScenario, Scenario, Workshop } from '../harness/model.ts';

const MICROSECONDS = 1e6;
/**
 * Whoever compiles while it runs has done so after some 40,000 requests, once per process: 0.3 s of CPU time that must be neither
 * in the cost of a request nor forgotten (README, measurements).
 */
const WARM_UP_SECONDS = 4;
/** Keeps one core busy; far below every listen queue, so that no SYN is dropped and sent again. */
const CONCURRENCY = 32;

/** A new connection per exchange; `atMost` of the best rival's CPU time. */
export function connectCase(atMost: number): Case {
  return {
    name: `c${CONCURRENCY}`,
    description: `${CONCURRENCY} at a time, one 12-byte answer each, the server closes first`,
    metric: 'CPU per connection',
    unit: 'µs',
    throughputUnit: 'conn/s',
    target: { kind: 'ratio', atMost },
  };
}

/**
 * Opens the scenario.
 * @param isShared whether the proxies may use connections to the backend for several clients
 */
export async function openConnect(workshop: Workshop, isShared = false): Promise<OpenScenario> {
  const tool = await workshop.tool('client');
  const backend = await startHttpBackend(workshop.folder);
  return {
    backendPort: backend.port,
    async measure(_name, turn) {
      return measureLoad(turn, {
        scale: MICROSECONDS,
        exchange: verifyHttp,
        verify: ({ port }) => verifyHttp(port),
        async warmUp({ port }) {
          await runClient(tool, 'connect', [port, CONCURRENCY], WARM_UP_SECONDS);
        },
        async load({ port }) {
          const before = await backend.accepted();
          const result = await runClient(tool, 'connect', [port, CONCURRENCY], turn.seconds);
          const accepted = (await backend.accepted()) - before;
          if (!isShared && accepted !== result.units) {
            throw new UserError(`${result.units} exchanges came over ${accepted} connections, not one each`);
          }
          return result;
        },
      });
    },
  };
}

export const scenario: Scenario = {
  name: 'tcp-connect',
  description: 'a new connection for every short exchange: CPU microseconds of the proxy per connection',
  programs: ['nginx', 'g++'],
  layout: 'one',
  hasControl: true,
  cases: [connectCase(1)],
  open: (workshop) => openConnect(workshop),
};
