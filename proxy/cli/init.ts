/** `ferrule init`: installs, shows, verifies and removes the iptables rules. */

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { checkCapture } from '../../iptables-init/check.ts';
import { readCaptureOptions, readRunOptions } from '../../iptables-init/options.ts';
import { includesPort } from '../../iptables-init/ports.ts';
import type { CaptureOptions } from '../../iptables-init/rules.ts';
import { applyCapture, type RunOptions, removeCapture, simulateCapture } from '../../iptables-init/runner.ts';
import { systemTools } from '../../iptables-init/tools.ts';
import { EXIT, UserError } from '../core/errors.ts';
import { type Command, formatUsage, parseOptions, usageError } from './command.ts';

const FACE = {
  name: 'init',
  summary: 'install, show, verify or remove the iptables rules that capture traffic',
  description: `
Redirects TCP of this network namespace to the proxy: what comes in to --inbound-port, what goes out to
--outbound-port. Never captured: what the proxy itself sends (--proxy-uid, --proxy-gid), loopback, the admin
port, and the metadata services of the clouds (169.254.169.254 and relatives). Safe to run again, with the same
or with other options. Needs root or CAP_NET_ADMIN and CAP_NET_RAW, except with --simulate.

PORTS is a list such as 25,3306,8000-8100; SUBNETS a list such as 10.0.0.0/8,fd00::/8.`,
  options: {
    'inbound-port': { value: 'PORT', default: '4143', help: 'where the proxy takes inbound connections' },
    'outbound-port': { value: 'PORT', default: '4140', help: 'where the proxy takes outbound connections' },
    'admin-port': { value: 'PORT', default: '4191', help: "the proxy's admin port; never redirected" },
    'ports-to-redirect': {
      value: 'PORTS',
      multiple: true,
      help: 'capture only these inbound ports, as on a VM; 22 only if named by itself (default: all ports)',
    },
    'inbound-ports-to-ignore': { value: 'PORTS', multiple: true, help: 'inbound ports to leave alone' },
    'outbound-ports-to-ignore': { value: 'PORTS', multiple: true, help: 'outbound ports to leave alone' },
    'subnets-to-ignore': {
      value: 'SUBNETS',
      multiple: true,
      help: 'networks to leave alone: as source on the way in, as destination on the way out',
    },
    'proxy-uid': { value: 'UID', default: '2102', help: 'the user the proxy runs as' },
    'proxy-gid': { value: 'GID', help: 'a group the proxy runs as; exempt as well when given' },
    ipv6: {
      value: 'MODE',
      default: 'auto',
      help: 'auto: capture IPv6 where it is enabled, fail if that is impossible; require: capture it in any case; off: do not',
    },
    'iptables-mode': {
      value: 'MODE',
      default: 'auto',
      help: 'nft, legacy, plain (the program iptables), or auto: the one whose rules are in use here',
    },
    netns: { value: 'NAME|PATH', help: 'work in this network namespace (ip netns, or /proc/PID/ns/net)' },
    wait: { short: 'w', value: 'SECONDS', default: '5', help: 'how long to wait for the xtables lock' },
    simulate: { help: 'print the commands instead of running them' },
    check: { help: 'verify the rules and prove capture with a real connection; exit 1 if it fails' },
    cleanup: { help: 'remove everything that was installed, and nothing else' },
  },
  examples: [
    'ferrule init --inbound-ports-to-ignore 25,587 --outbound-ports-to-ignore 3306,8000-8100',
    'ferrule init --ports-to-redirect 8080 --subnets-to-ignore 10.96.0.0/12     # a VM',
    'ferrule init --check && ferrule init --cleanup',
  ],
} as const;

/** The command, for the registry of `ferrule.ts`. */
export const command: Command = {
  name: FACE.name,
  summary: FACE.summary,
  usage: formatUsage(FACE),
  run,
};

async function run(args: readonly string[]): Promise<number> {
  const mistakes: string[] = [];
  const options = parseOptions(FACE, args, mistakes);
  const capture = readCaptureOptions(options, mistakes);
  const how = readRunOptions(options, mistakes);
  const actions = (['simulate', 'check', 'cleanup'] as const).filter((action) => options.flag(action));
  if (actions.length > 1) mistakes.push(`--${actions.join(' and --')} exclude each other`);
  if (mistakes.length > 0) throw usageError(FACE.name, mistakes);
  const netns = options.text('netns');
  if (netns !== undefined) {
    const path = namespacePath(netns);
    if (options.flag('simulate')) process.stdout.write(`# run these inside: nsenter --net=${path} sh\n`);
    // Only root can look into a namespace; without that look its rules are taken to be none.
    if (!options.flag('simulate') || process.geteuid?.() === 0) return enterNamespace(path, args);
  }
  if (options.flag('simulate')) return print(simulateCapture(systemTools, capture, how));
  if (options.flag('check')) return check(capture, how);
  if (options.flag('cleanup')) return cleanUp(how);
  return install(capture, how);
}

function install(capture: CaptureOptions, how: RunOptions): number {
  const { backend, families, notes } = applyCapture(systemTools, capture, how);
  for (const note of notes) process.stderr.write(`${note}\n`);
  warnOfOwnSession(capture);
  const inbound =
    capture.portsToRedirect.length === 0 ? 'inbound TCP' : 'inbound TCP to the ports to redirect';
  const programs = [...families].sort().map((family) => backend.programs[family]);
  return print(
    `${inbound} goes to port ${capture.inboundPort}, outbound TCP to port ${capture.outboundPort} ` +
      `(${programs.join(', ')}); verify with \`ferrule init --check\`\n` +
      (families.includes(6) ? '' : 'IPv6 is not captured: it is disabled here, or --ipv6 off was given\n'),
  );
}

async function check(capture: CaptureOptions, how: RunOptions): Promise<number> {
  const { proven, lines } = await checkCapture(systemTools, capture, how);
  print(`${lines.join('\n')}\n${proven ? 'Capture is proven.' : 'Capture is not proven.'}\n`);
  return proven ? EXIT.ok : EXIT.failure;
}

function cleanUp(how: RunOptions): number {
  const removed = removeCapture(systemTools, how);
  return print(removed.length === 0 ? 'no rules of Ferrule are installed\n' : `${removed.join('\n')}\n`);
}

function namespacePath(netns: string): string {
  const path = netns.includes('/') ? netns : `/run/netns/${netns}`;
  if (existsSync(path)) return path;
  throw new UserError(`no network namespace ${path}: \`ip netns list\` shows the names`, EXIT.unavailable);
}

/** Runs the same command inside the namespace: rules, IPv6 switches and the connection of --check all belong there. */
function enterNamespace(path: string, args: readonly string[]): number {
  const inside = withoutNetns(args);
  const node = [process.execPath, ...process.execArgv, process.argv[1], FACE.name, ...inside];
  const { status, error } = spawnSync('nsenter', [`--net=${path}`, '--', ...node], { stdio: 'inherit' });
  if ((error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') {
    throw new UserError('--netns needs nsenter: install the package util-linux', EXIT.unavailable);
  }
  if (error !== undefined) throw error;
  return status ?? EXIT.failure;
}

/** The parser refused `--netns` as the value of another option, so every occurrence is the option itself. */
function withoutNetns(args: readonly string[]): string[] {
  return args.filter((arg, index) => {
    const isOption = arg === '--netns' || arg.startsWith('--netns=');
    return !isOption && args[index - 1] !== '--netns';
  });
}

/** New ssh sessions of a VM's administrator would depend on the proxy: allowed, but not in silence. */
function warnOfOwnSession({ portsToRedirect, inboundPortsToIgnore }: CaptureOptions): void {
  const port = Number(process.env.SSH_CONNECTION?.split(' ')[3]);
  const captured = portsToRedirect.length === 0 && !includesPort(inboundPortsToIgnore, port);
  if (!port || !captured) return;
  process.stderr.write(
    `warning: new ssh sessions to port ${port} now go through the proxy; ` +
      `--inbound-ports-to-ignore ${port} or --ports-to-redirect would spare them\n`,
  );
}

function print(text: string): number {
  process.stdout.write(text);
  return EXIT.ok;
}
