/** What a running proxy takes over from a changed file, and what it does not. */
import t from 'tap';
import { changedSettings, takeOver } from '../../proxy/config/changes.ts';
import type { Config } from '../../proxy/config/config.ts';
import { loadConfig } from '../../proxy/config/load.ts';
import { Cidr } from '../../proxy/core/address.ts';
import type { Policy } from '../../proxy/model/policy.ts';
import { at } from '../support/engine.ts';

const defaults = await loadConfig({ env: {}, flags: {} });

function withPorts(...ports: readonly (readonly [listen: string, port: number, policy: Policy])[]): Config {
  const entries = ports.map(([listen, port, policy]) => ({ listen: at(listen), port, policy }));
  return { ...defaults, inbound: { ...defaults.inbound, ports: entries } };
}

const policies = ({ inbound }: Config) => inbound.ports.map(({ policy }) => policy);

t.test(
  'policies, cluster networks, the log level and the access log are taken over, nothing else',
  async (t) => {
    const [network] = [Cidr.parse('10.0.0.0/8')!];
    const newer: Config = {
      ...defaults,
      workers: 3,
      inbound: { ...defaults.inbound, defaultPolicy: 'deny', clusterNetworks: [network], opaquePorts: [1] },
      log: { level: 'debug', format: 'json', access: 'json' },
    };
    const next = takeOver(defaults, newer);
    t.strictSame(changedSettings(defaults, next), [
      'inbound.defaultPolicy',
      'inbound.clusterNetworks',
      'log.level',
      'log.access',
    ]);
    t.strictSame(changedSettings(next, newer), ['inbound.opaquePorts', 'workers', 'log.format']);
  },
);

t.test('listeners keep their places and get the policy of the same address and port', async (t) => {
  const start = withPorts(
    ['0.0.0.0:1', 10, 'all-unauthenticated'],
    ['0.0.0.0:2', 20, 'all-unauthenticated'],
    ['0.0.0.0:3', 30, 'all-unauthenticated'],
  );
  const newer = withPorts(
    ['0.0.0.0:4', 40, 'all-unauthenticated'],
    ['0.0.0.0:3', 30, 'all-authenticated'],
    ['0.0.0.0:1', 10, 'deny'],
    ['0.0.0.0:2', 21, 'deny'],
  );
  const next = takeOver(start, newer);
  t.strictSame(policies(next), ['deny', 'all-unauthenticated', 'all-authenticated']);
  t.strictSame(changedSettings(next, newer), ['inbound.ports']);
  t.strictSame(takeOver(next, newer), next, 'reading it once more changes nothing');
  t.strictSame(policies(takeOver(next, withPorts())), policies(next), 'what is gone stays as it was');
  t.strictSame(takeOver(next, start), start, 'and back');
});

t.test('listeners that look the same are told apart by their order', async (t) => {
  const start = withPorts(['0.0.0.0:0', 10, 'deny'], ['0.0.0.0:0', 10, 'deny']);
  const newer = withPorts(['0.0.0.0:0', 10, 'deny'], ['0.0.0.0:0', 10, 'all-authenticated']);
  t.strictSame(takeOver(start, newer), newer);
});
