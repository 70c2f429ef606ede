import t from 'tap';
import { type CaptureOptions, captureRules } from '../../iptables-init/rules.ts';
import { applyCapture, type RunOptions, removeCapture, simulateCapture } from '../../iptables-init/runner.ts';
import { differences, parseSave, stateOf, transition } from '../../iptables-init/table.ts';
import type { ToolResult, Tools } from '../../iptables-init/tools.ts';
import { UserError } from '../../proxy/core/errors.ts';

const CAPTURE: CaptureOptions = {
  inboundPort: 4143,
  outboundPort: 4140,
  adminPort: 4191,
  portsToRedirect: [],
  inboundPortsToIgnore: [],
  outboundPortsToIgnore: [],
  subnetsToIgnore: [],
  proxyUid: 2102,
  proxyGid: undefined,
};
const RUN: RunOptions = { mode: 'auto', ipv6: 'auto', waitSeconds: 5 };
const FOREIGN = '-A OUTPUT -p udp -m comment --comment "not ours" -j ACCEPT';

/** A machine in memory: one nat table per back end and family, and programs that fail where a test says so. */
class Machine implements Tools {
  readonly tables = new Map<string, { chains: Set<string>; rules: string[] }>();
  readonly installed: Set<string>;
  /** Complaint by program name; the program then fails. */
  readonly broken = new Map<string, string>();
  readonly calls: string[] = [];
  ipv6 = ['eth0'];

  constructor(...backends: string[]) {
    this.installed = new Set(backends.flatMap((kind) => [`iptables-${kind}`, `ip6tables-${kind}`]));
    for (const program of this.installed) this.tables.set(program, { chains: new Set(), rules: [] });
  }

  ipv6Interfaces(): string[] {
    return this.ipv6;
  }

  mayAdminister(): boolean {
    return true;
  }

  run(program: string, args: readonly string[], input = ''): ToolResult {
    this.calls.push([program, ...args].join(' '));
    const base = program.replace(/-(save|restore)$/, '');
    const ok = (stdout: string) => ({ status: 0, stdout, stderr: '', absent: false });
    if (!this.installed.has(base)) return { status: -1, stdout: '', stderr: 'ENOENT', absent: true };
    const complaint = this.broken.get(program);
    if (complaint !== undefined) return { status: 3, stdout: '', stderr: complaint, absent: false };
    if (program.endsWith('-save')) return ok(this.save(base));
    if (program.endsWith('-restore')) this.restore(base, input);
    return ok(`${base} v1.8.9 (${base.includes('nft') ? 'nf_tables' : 'legacy'})`);
  }

  save(base: string): string {
    const { chains, rules } = this.tables.get(base)!;
    const quoted = rules.map((rule) => rule.replace(/"?(ferrule\/[\w-]+)"?/, '"$1"'));
    return ['*nat', ...[...chains].map((chain) => `:${chain} - [0:0]`), ...quoted, 'COMMIT', ''].join('\n');
  }

  restore(base: string, input: string): void {
    const table = this.tables.get(base)!;
    for (const line of input.split('\n')) {
      const [word, chain] = line.split(' ');
      const emptied = word === '-F' ? chain : word.startsWith(':') ? word.slice(1) : undefined;
      if (emptied !== undefined)
        table.rules = table.rules.filter((rule) => !rule.startsWith(`-A ${emptied} `));
      if (word.startsWith(':')) table.chains.add(word.slice(1));
      if (word === '-X') table.chains.delete(chain);
      if (word === '-A') table.rules.push(line);
      if (word === '-D') {
        const same = table.rules.findIndex((rule) => plain(rule) === plain(line.replace('-D', '-A')));
        if (same < 0) throw new Error(`nothing to delete: ${line}`);
        table.rules.splice(same, 1);
      }
    }
  }

  rulesOf(base: string): string[] {
    return this.tables.get(base)!.rules;
  }
}

const plain = (rule: string) => rule.replaceAll('"', '');

function failure(action: () => unknown): UserError {
  try {
    action();
  } catch (error) {
    if (error instanceof UserError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

t.test('installs both families, then changes nothing when repeated', async (t) => {
  const machine = new Machine('nft', 'legacy');
  machine.rulesOf('iptables-nft').push(FOREIGN);
  const { backend, families } = applyCapture(machine, CAPTURE, RUN);
  t.equal(backend.kind, 'nft');
  t.strictSame([...families].sort(), [4, 6]);
  const first = [machine.save('iptables-nft'), machine.save('ip6tables-nft')];
  t.match(first[0], /PREROUTING.*FERRULE_INIT_REDIRECT/);
  t.match(first[1], /OUTPUT.*FERRULE_INIT_OUTPUT/);
  applyCapture(machine, CAPTURE, RUN);
  const sorted = (text: string) => text.split('\n').sort();
  t.strictSame(sorted(machine.save('iptables-nft')), sorted(first[0]));
  t.strictSame(machine.rulesOf('iptables-nft')[0], FOREIGN);
  t.strictSame(machine.rulesOf('iptables-legacy'), []);
  t.ok(
    machine.calls.some((call) => call === 'iptables-nft-restore --noflush --wait 5'),
    'the wait for the lock is passed on',
  );
});

t.test('removes exactly its own', async (t) => {
  const machine = new Machine('nft', 'legacy');
  machine.rulesOf('iptables-nft').push(FOREIGN);
  applyCapture(machine, CAPTURE, RUN);
  t.equal(removeCapture(machine, RUN).length, 2);
  t.strictSame(machine.rulesOf('iptables-nft'), [FOREIGN]);
  t.equal(machine.tables.get('iptables-nft')!.chains.size, 0);
  t.strictSame(removeCapture(machine, RUN), [], 'and nothing the second time');
});

t.test('uses the back end whose rules are in use', async (t) => {
  const busy = new Machine('nft', 'legacy');
  busy.rulesOf('iptables-legacy').push(FOREIGN);
  t.equal(applyCapture(busy, CAPTURE, RUN).backend.kind, 'legacy', 'other NAT rules');
  busy.rulesOf('iptables-nft').push(FOREIGN, FOREIGN);
  t.equal(applyCapture(busy, CAPTURE, RUN).backend.kind, 'legacy', 'our own rules come first');
  const noNft = new Machine('nft', 'legacy');
  noNft.broken.set('iptables-nft-save', 'Failed to initialize nft: Protocol not supported');
  t.equal(applyCapture(noNft, CAPTURE, RUN).backend.kind, 'legacy', 'what the kernel has');
  const forbidden = new Machine('nft', 'legacy');
  forbidden.broken.set('iptables-nft-save', 'Permission denied (you must be root)');
  t.match(
    simulateCapture(forbidden, CAPTURE, RUN),
    /^iptables-nft-restore/m,
    'not what happens to be readable',
  );
});

t.test('falls back to the other back end when the first cannot do it, leaving nothing in it', async (t) => {
  const machine = new Machine('nft', 'legacy');
  machine.broken.set('iptables-nft-restore', 'RULE_APPEND failed (Operation not supported)');
  t.equal(applyCapture(machine, CAPTURE, RUN).backend.kind, 'legacy');
  t.strictSame(machine.rulesOf('ip6tables-nft'), [], 'IPv6 was rolled back');
});

t.test('moves to the named back end and says so', async (t) => {
  const machine = new Machine('nft', 'legacy');
  applyCapture(machine, CAPTURE, RUN);
  const { notes } = applyCapture(machine, CAPTURE, { ...RUN, mode: 'legacy' });
  t.strictSame(notes, [
    "removed Ferrule's IPv4 rules from iptables-nft",
    "removed Ferrule's IPv6 rules from ip6tables-nft",
  ]);
  t.strictSame(machine.rulesOf('iptables-nft'), []);
  t.ok(machine.rulesOf('iptables-legacy').length > 0);
});

t.test('refuses when IPv6 is enabled but cannot be redirected, and leaves all as it was', async (t) => {
  const machine = new Machine('nft');
  applyCapture(machine, CAPTURE, { ...RUN, ipv6: 'off' });
  const before = machine.save('iptables-nft');
  machine.broken.set('ip6tables-nft-restore', "can't initialize ip6tables table `nat': Table does not exist");
  const error = failure(() => applyCapture(machine, { ...CAPTURE, outboundPort: 5140 }, RUN));
  t.equal(error.exitCode, 69);
  t.match(error.message, /IPv6 is enabled here \(eth0\)/);
  t.match(error.message, /--ipv6 off/);
  t.match(error.message, /Nothing was changed/);
  t.equal(machine.save('iptables-nft'), before);

  machine.ipv6 = [];
  t.strictSame(applyCapture(machine, CAPTURE, RUN).families, [4], 'auto skips IPv6 where it is disabled');
  t.throws(() => applyCapture(machine, CAPTURE, { ...RUN, ipv6: 'require' }), 'require does not');
});

t.test('rolls IPv6 back to what it was when IPv4 fails', async (t) => {
  const machine = new Machine('nft');
  applyCapture(machine, CAPTURE, RUN);
  const before = machine.save('ip6tables-nft');
  machine.broken.set('iptables-nft-restore', 'Another app is currently holding the xtables lock');
  const error = failure(() => applyCapture(machine, { ...CAPTURE, outboundPort: 5140 }, RUN));
  t.match(error.message, /raise --wait/);
  const sorted = (text: string) => text.replaceAll('"', '').split('\n').sort();
  t.strictSame(sorted(machine.save('ip6tables-nft')), sorted(before));
});

t.test('stops capturing IPv6 when told to', async (t) => {
  const machine = new Machine('nft');
  applyCapture(machine, CAPTURE, RUN);
  const { notes } = applyCapture(machine, CAPTURE, { ...RUN, ipv6: 'off' });
  t.strictSame(notes, ["removed Ferrule's IPv6 rules from ip6tables-nft"]);
  t.strictSame(machine.rulesOf('ip6tables-nft'), []);
});

t.test('says what is missing and what to do', async (t) => {
  const none = failure(() => applyCapture(new Machine(), CAPTURE, RUN));
  t.match(none.message, /iptables is not installed: install/);
  t.equal(none.exitCode, 69);
  const noLegacy = failure(() => applyCapture(new Machine('nft'), CAPTURE, { ...RUN, mode: 'legacy' }));
  t.match(noLegacy.message, /iptables-legacy is not installed/);
  const unprivileged = new Machine('nft');
  for (const family of ['', '6']) {
    unprivileged.broken.set(`ip${family}tables-nft-save`, 'Permission denied (you must be root)');
  }
  for (const action of [applyCapture, (tools: Tools) => removeCapture(tools, RUN)]) {
    t.match(failure(() => action(unprivileged, CAPTURE, RUN)).message, /needs root or .*CAP_NET_ADMIN/);
  }
});

t.test('shows without privileges what it would run', async (t) => {
  const machine = new Machine('nft');
  machine.broken.set('ip6tables-nft-save', 'Permission denied (you must be root)');
  const text = simulateCapture(machine, CAPTURE, RUN);
  t.match(text, /# The present rules cannot be read.*Permission denied/);
  t.match(text, /^iptables-nft-restore --noflush --wait 5 <<'END'\n\*nat\n/m);
  t.match(text, /^ip6tables-nft-restore /m);
  t.notOk(
    machine.calls.some((call) => call.includes('-restore')),
    'and runs none of it',
  );
});

t.test('keeps a jump where it is and removes its doubles', async (t) => {
  const wanted = stateOf(captureRules(CAPTURE, 4));
  const [prerouting, output] = wanted.jumps;
  const found = parseSave(['*nat', prerouting, prerouting, FOREIGN, 'COMMIT'].join('\n'));
  const lines = transition(found, wanted)!.split('\n');
  t.equal(lines.filter((line) => line === prerouting.replace('-A', '-D')).length, 1);
  t.notOk(lines.includes(prerouting), 'the first one stays');
  t.ok(lines.includes(output));
  t.equal(found.foreignRules, 1);
  t.equal(transition({ chains: new Map(), jumps: [] }, { chains: new Map(), jumps: [] }), undefined);
});

t.test('tells what differs from what should be installed', async (t) => {
  const wanted = stateOf(captureRules(CAPTURE, 4));
  const render = (rules: string[]) =>
    parseSave(
      ['*nat', ':FERRULE_INIT_REDIRECT - [0:0]', ':FERRULE_INIT_OUTPUT - [0:0]', ...rules, ''].join('\n'),
    );
  const all = [...[...wanted.chains.values()].flat(), ...wanted.jumps];
  const printed = all.map(
    (rule) => `[3:180] ${rule.replace(/(ferrule\/\S+)/, '"$1"').replace('-p tcp', '-p tcp -m tcp')}`,
  );
  t.strictSame(differences(wanted, render(printed)), [], 'quotes, counters and -m tcp are no difference');
  t.equal(render(printed).packets.get('ferrule/inbound-redirect'), 3);

  const without = (part: string) => render(printed.filter((rule) => !rule.includes(part)));
  t.match(differences(wanted, without('proxy-uid')), [/^missing: .*uid-owner 2102/]);
  t.match(differences(wanted, without('-A PREROUTING')), [/^missing: -A PREROUTING/]);
  const otherUid = render(printed.map((rule) => rule.replace('2102', '2103')));
  t.match(differences(wanted, otherUid), [/^missing: .*2102/, /^unexpected: .*2103/]);
  t.match(differences(wanted, render([...printed].reverse())), [/not in their order/, /not in their order/]);
  t.match(differences(wanted, render([...printed, printed.at(-1)!])), [/there 2 times/]);
  t.match(differences(wanted, parseSave('')), [
    /chain .* is missing/,
    /chain .* is missing/,
    /missing/,
    /missing/,
  ]);
});
