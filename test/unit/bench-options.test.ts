import t from 'tap';
import { parseOptions } from '../../bench/harness/options.ts';
import { EXIT } from '../../proxy/core/errors.ts';

const KNOWN = { scenarios: ['tcp-bulk', 'tcp-request', 'start'], peers: ['ferrule', 'haproxy'] };
const parse = (...args: string[]) => parseOptions(args, KNOWN);

t.test('defaults', async (t) => {
  t.match(parse(), { scenarios: undefined, peers: undefined, rounds: 5, seconds: 5, connections: 4000 });
});

t.test('names come in lists, repeated, and end up in the order of the catalog', async (t) => {
  t.same(parse('--scenario', 'start,tcp-bulk').scenarios, ['tcp-bulk', 'start']);
  t.same(parse('--scenario=start', '--scenario=tcp-bulk').scenarios, ['tcp-bulk', 'start']);
  t.same(parse('--peer', 'haproxy').peers, ['haproxy']);
});

t.test('mistakes say what is allowed', async (t) => {
  const wrong = (message: RegExp, ...args: string[]) =>
    t.throws(() => parse(...args), { message, exitCode: EXIT.usage }, args.join(' '));
  wrong(/there is no "tcp-bulc"; did you mean tcp-bulk\?/, '--scenario', 'tcp-bulc');
  wrong(/--peer: there is no "envoy"; there are ferrule, haproxy/, '--peer', 'envoy');
  wrong(/--rounds: must be a whole number from 1 to 100, is "0"/, '--rounds', '0');
  wrong(/--seconds: must be a whole number from 1 to 600, is "1.5"/, '--seconds', '1.5');
  wrong(/--connections: .* is "9001"/, '--connections', '9001');
  wrong(/--round/, '--round', '3');
  wrong(/stray/, 'stray');
});
