/** A recorded decision for tests that show it. */
import type { Explanation } from '../../proxy/model/explanation.ts';

/** A request that was answered by the second of two endpoints, but for what the test says. */
export function explanationOf(own: Partial<Explanation> = {}): Explanation {
  return {
    id: '0-17',
    startedAt: '2026-11-21T14:02:11.123Z',
    direction: 'outbound',
    client: '127.0.0.1:50322',
    target: 'payments.default:80',
    detection: { protocol: 'http/1', afterMs: 0.312 },
    request: { method: 'GET', path: '/orders/17', authority: 'payments.default' },
    outcome: 'answered',
    status: 200,
    attempts: [
      {
        endpoint: '10.0.0.1:8080',
        afterMs: 0.04,
        protocol: 'http/1',
        connection: 'new',
        outcome: 'not reached',
        detail: 'ECONNREFUSED',
        choice: {
          reason: 'load',
          compared: [
            { address: '10.0.0.2:8080', inFlight: 5, ewmaMs: 40.12, measured: true, load: 240.72 },
            { address: '10.0.0.1:8080', inFlight: 3, ewmaMs: 12, measured: true, load: 48 },
          ],
        },
      },
      {
        endpoint: '10.0.0.2:8080',
        identity: 'spiffe://cluster.local/ns/default/sa/payments',
        afterMs: 1.5,
        protocol: 'h2',
        connection: 'kept',
        served: 7,
        outcome: 'answered',
        choice: {
          reason: 'rest',
          compared: [{ address: '10.0.0.2:8080', inFlight: 5, ewmaMs: 40.12, measured: true, load: 240.72 }],
        },
      },
    ],
    attemptsLeftOut: 0,
    sentAfterMs: 1.52,
    answeredAfterMs: 30.9,
    endedAfterMs: 31.25,
    ...own,
  };
}
