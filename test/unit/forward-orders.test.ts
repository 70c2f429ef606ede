/** Requests through the forwarder while connections come and go: whatever the order of events, nobody waits for ever. */
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { Http1Exchange } from '../../proxy/forward/http1-exchange.ts';
import { Http2Exchange } from '../../proxy/forward/http2-exchange.ts';
import { H1ClientPeer, H1ServerPeer } from '../support/forward-h1-peers.ts';
import { H2ClientPeer, H2ServerPeer } from '../support/forward-h2-peers.ts';
import type { Call } from '../support/forward-peers.ts';
import { type Cast, World } from '../support/forward-world.ts';

const STEPS = 500;
const RUNS = process.env.FERRULE_SOAK === '1' ? 2_000 : 60;

/** What is wrong after so many steps; undefined: nothing. */
function play(seed: number, cast: Cast): string | undefined {
  const world = new World(seed, cast);
  for (let n = 0; n < STEPS; n++) world.step();
  world.settle();
  const hanging = world.hanging();
  if (hanging.length > 0) return `these hang: ${hanging.map(describe).join(', ')}`;
  const unanswered = world.ask();
  if (unanswered.length > 0) return `these are not answered: ${unanswered.map(describe).join(', ')}`;
  const repeated = world.repeated();
  if (repeated.length > 0) return `these were sent twice: ${repeated.map(describe).join(', ')}`;
  world.leave();
  for (const { figures } of [...world.endpoints, ...world.gone]) {
    const { inFlight } = figures.requests;
    if (inFlight !== 0) return `${inFlight} requests are in flight when all clients have gone`;
  }
  const outcomes = world.http.explain(undefined).map(({ outcome }) => outcome);
  return outcomes.includes('under way') ? 'a decision is under way when all clients have gone' : undefined;
}

function describe({ id, method, path, sent, length, got, status, outcome }: Call): string {
  return `${id} ${method} ${path}: ${sent} of ${length} sent, ${status}, ${got} received, ${outcome}`;
}

/** Endpoints speak what their clients do, but in tests. */
function speak(t: Test, clients: typeof Http1Exchange | typeof Http2Exchange, isHttp2: boolean): void {
  const before = Object.getOwnPropertyDescriptor(clients.prototype, 'isHttp2')!;
  Object.defineProperty(clients.prototype, 'isHttp2', { ...before, get: () => isHttp2 });
  t.teardown(() => Object.defineProperty(clients.prototype, 'isHttp2', before));
}

const h1Client: Cast['client'] = () => new H1ClientPeer();
const h2Client: Cast['client'] = (clock) => new H2ClientPeer(clock);
const h1Server: Cast['server'] = () => new H1ServerPeer();
const h2Server: Cast['server'] = (clock) => new H2ServerPeer(clock);

const SIDES = [
  ['HTTP/2 on both sides', { client: h2Client, server: h2Server }, Http2Exchange, true],
  ['HTTP/2 to HTTP/1', { client: h2Client, server: h1Server }, Http2Exchange, false],
  ['HTTP/1 to HTTP/2', { client: h1Client, server: h2Server }, Http1Exchange, true],
] as const;

for (const [name, cast, clients, isHttp2] of SIDES) {
  t.test(name, async (t) => {
    speak(t, clients, isHttp2);
    const property = fc.property(fc.nat(), (seed) => t.equal(play(seed, cast), undefined));
    t.doesNotThrow(() => fc.assert(property, { seed: 42, numRuns: RUNS, endOnFailure: true }));
  });
}
