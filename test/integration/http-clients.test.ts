/** Node's http client with an agent and undici, through one proxy and through two. */
import t from 'tap';
import { startApplication } from '../support/http-application.ts';
import { exerciseClients } from '../support/http-exercises.ts';
import { startRoutes } from '../support/http-routes.ts';

t.setTimeout(process.env.FERRULE_SOAK === '1' ? 1_800_000 : 240_000);

t.test('clients of Node', async (t) => {
  const application = await startApplication(t);
  const { routes, outgoing, incoming, idle } = await startRoutes(t, application.address);
  const askedOf: number[] = [];
  for (const { name, address } of routes) {
    await t.test(name, async (t) => {
      const before = application.seen.length;
      let asked = 0;
      for (const outcome of await exerciseClients(address)) {
        t.strictSame(outcome.wrong, [], outcome.name);
        asked += outcome.asked;
      }
      t.equal(application.seen.length - before, asked, `${asked} requests reached the application`);
      askedOf.push(asked);
    });
  }
  await idle();
  const [outbound, inbound, both] = askedOf;
  t.equal(await outgoing.sum('request_total', { direction: 'outbound' }), outbound + both);
  t.equal(await incoming.sum('request_total', { direction: 'inbound' }), inbound + both);
});
