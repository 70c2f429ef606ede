/** `ferrule demo`: a whole mesh on this machine, with real traffic and a live view. */

import { duration, Mistake } from '../config/kinds.ts';
import { EXIT } from '../core/errors.ts';
import { DEMO_MODES, type DemoMode, runDemo, type Summary, shortcomings } from '../demo/demo.ts';
import { type Command, formatUsage, parseOptions, usageError } from './command.ts';

const FACE = {
  name: 'demo',
  summary: 'run a whole mesh on this machine, with real traffic and a live view',
  description: `
Two pods with a sidecar each, clients in one, servers in the other: servers for echo, HTTP/1, HTTP/2 and gRPC that come
with Ferrule, Redis and PostgreSQL (or MariaDB) where they are installed. As root the pods are network namespaces and
iptables takes the traffic to the sidecars; otherwise everything is on loopback, with explicit ports.

Between the sidecars is mutual TLS, with certificates from an authority made for the run. They are replaced every few
seconds, and in the beginning the root is rolled over.

Figures go to standard error. Ends with Ctrl-C, or after --for, and finishes a change of certificates first; status 0
if there was traffic, nothing failed, all connections were mutual TLS and new certificates were taken up.
It leaves nothing behind, also when it is killed.`,
  options: {
    for: { value: 'TIME', help: 'end by itself after this time, such as 10s or 5m' },
    json: { help: 'print one JSON object as the last line on standard output' },
    mode: {
      value: 'MODE',
      default: 'auto',
      help: 'transparent: namespaces and iptables; explicit: loopback; auto: transparent where it can be',
    },
  },
  examples: ['ferrule demo', 'ferrule demo --for 10s --json', 'sudo ferrule demo --mode transparent'],
} as const;

/** The command, for the registry of `ferrule.ts`. */
export const command: Command = {
  name: FACE.name,
  summary: FACE.summary,
  usage: formatUsage(FACE),
  run,
};

/** Below a second there may be no traffic; nobody watches a demo for more than a day. */
const RUN_TIME = duration('1s', '24h');

async function run(args: readonly string[]): Promise<number> {
  const mistakes: string[] = [];
  const options = parseOptions(FACE, args, mistakes);
  const text = options.text('for');
  const forMs = text === undefined ? undefined : RUN_TIME.parse(text, '');
  if (forMs instanceof Mistake) mistakes.push(`--for: ${forMs.message}`);
  const mode = DEMO_MODES.find((one) => one === options.text('mode'));
  if (mode === undefined) {
    mistakes.push(`--mode: ${JSON.stringify(options.text('mode'))} is none of ${DEMO_MODES.join(', ')}`);
  }
  if (mistakes.length > 0) throw usageError(FACE.name, mistakes);
  const summary = await runDemo({ mode: mode as DemoMode, forMs: forMs as number | undefined });
  if (summary === undefined) return EXIT.failure;
  process.stdout.write(`${options.flag('json') ? JSON.stringify(summary) : describe(summary)}\n`);
  const found = shortcomings(summary);
  for (const shortcoming of found) process.stderr.write(`ferrule demo: ${shortcoming}\n`);
  return found.length === 0 ? EXIT.ok : EXIT.failure;
}

function describe(summary: Summary): string {
  const { transparent, requests, failures, mtlsShare, p50Ms, p99Ms } = summary;
  return (
    `${requests} requests, ${failures} failed; p50 ${p50Ms} ms, p99 ${p99Ms} ms; ` +
    `${transparent ? 'transparent' : 'explicit ports'}; ` +
    `mutual TLS on ${Math.floor(mtlsShare * 100)} % of the connections, ` +
    `certificates replaced ${summary.certificateRotations} times, the root ${summary.rootRollovers} times`
  );
}
