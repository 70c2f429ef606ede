/** `ferrule await`: starts an application once its proxy is ready, and lets the proxy know how long it runs. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { isatty } from 'node:tty';
import { duration, Mistake } from '../config/kinds.ts';
import { EXIT, UserError } from '../core/errors.ts';
import { ADMIN_OPTIONS, type AdminClient, readAdminOptions } from './admin-client.ts';
import { type Command, type CommandFace, formatUsage, parseOptions, usageError } from './command.ts';

/** Between two looks at /ready, in ms: an application must not start noticeably later than it could. */
const POLL_MS = 100;

/** First word about a wait, and then between two, in ms: a start that goes well says nothing. */
const FIRST_REPORT_MS = 2_000;
const REPORT_MS = 10_000;

/** Between two attempts to tell a restarted proxy that the application runs, in ms. */
const REGISTER_MS = 1_000;

/** What a shell reports for a program that is not there, and for one that cannot be run. */
const EXIT_NOT_FOUND = 127;
const EXIT_NOT_EXECUTABLE = 126;

/** A shell reports the end by signal n as 128 + n. */
const EXIT_SIGNAL = 128;

const FORWARDED = [
  'SIGTERM',
  'SIGINT',
  'SIGHUP',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
  'SIGWINCH',
] as const satisfies readonly NodeJS.Signals[];

/** End the wait for the proxy, when there is no application yet to decide. */
const ENDING: ReadonlySet<NodeJS.Signals> = new Set(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT']);

/** What a terminal sends to all its foreground processes: the application has it already. */
const FROM_TERMINAL: ReadonlySet<NodeJS.Signals> = new Set(['SIGINT', 'SIGQUIT', 'SIGHUP', 'SIGWINCH']);

const timeoutKind = duration('100ms', '24h');

const FACE = {
  name: 'await',
  summary: 'start an application when the proxy is ready',
  positionals: '-- CMD [ARG...]',
  description: `
Waits until /ready of the proxy answers 200, then runs CMD with this standard input, output and error. Passes on
${FORWARDED.join(', ')}. Ends with CMD's exit status:
128 + n when signal n ended it, ${EXIT_NOT_FOUND} when there is no such program, ${EXIT_NOT_EXECUTABLE} when it cannot be run.
In a terminal SIGINT, SIGQUIT, SIGHUP and SIGWINCH are not passed on: the terminal sends them to CMD itself.

With the proxy's admin token, await also keeps a connection to the proxy open for as long as CMD runs: a proxy
that was told to stop then takes the outgoing connections of CMD until CMD has ended. Without the token CMD runs
all the same, but a stopping proxy only sees its connections, and closes its outbound side after 2 s without any.

The token is a file that the proxy's user and root can read; the proxy's log names it. CMD must not run as the
proxy's user, whose connections pass the iptables rules by: run await as root, and CMD as another user through
setpriv. In a pod, containers share loopback but not files: with a native sidecar do without the token, because
Kubernetes ends the sidecar after the application; otherwise name a file in a new folder of an emptyDir volume
that both containers mount (admin.tokenFile: /shared/ferrule/token), and run the application as root.`,
  options: {
    timeout: { value: 'DURATION', default: '60s', help: 'give up after this long, with exit status 69' },
    ...ADMIN_OPTIONS,
    shutdown: {
      help: 'when CMD has ended, however, stop the proxy too, so that a Job ends; needs the token',
    },
  },
  examples: [
    'ferrule await -- node server.js',
    'ferrule await --timeout 5m --token-file /run/ferrule/admin-4191.token -- setpriv --reuid app -- ./server',
    'ferrule await --shutdown -- ./nightly-report',
  ],
} as const satisfies CommandFace;

/** The command, for the registry of `ferrule.ts`. */
export const command: Command = {
  name: FACE.name,
  summary: FACE.summary,
  usage: formatUsage(FACE),
  run,
};

async function run(args: readonly string[]): Promise<number> {
  const { client, timeoutMs, shutdown, cmd } = readOptions(args);
  const signals = new Signals();
  await waitUntilReady(client, timeoutMs, signals.ended);
  if (shutdown && !signals.ended.aborted) requireToken(client);
  const done = new AbortController();
  if (!signals.ended.aborted) await register(client, done.signal);
  if (signals.endedBy !== undefined) return statusOf(signals.endedBy);
  const status = await runApplication(cmd, signals);
  done.abort();
  if (shutdown) await shutDown(client);
  return status;
}

function readOptions(args: readonly string[]) {
  const mistakes: string[] = [];
  const options = parseOptions(FACE, args, mistakes);
  const timeoutMs = timeoutKind.parse(options.text('timeout')!, '');
  if (timeoutMs instanceof Mistake) mistakes.push(`--timeout ${timeoutMs.message}`);
  const client = readAdminOptions(options, mistakes);
  const [program, ...rest] = options.positionals;
  if (program === undefined) mistakes.push('a command is missing: ferrule await -- CMD [ARG...]');
  if (mistakes.length > 0 || timeoutMs instanceof Mistake || client === undefined) {
    throw usageError(FACE.name, mistakes);
  }
  return {
    client,
    timeoutMs,
    shutdown: options.flag('shutdown'),
    cmd: [program, ...rest] as const,
  };
}

/** Catches signals from the start: for process 1 of a container the kernel has no default that would end it. */
class Signals {
  /** The signal that ended the wait. */
  endedBy: NodeJS.Signals | undefined;
  /** Aborted when there is no application yet and a signal ends the wait. */
  readonly ended: AbortSignal;
  private application: ChildProcess | undefined;
  private readonly end = new AbortController();
  private readonly inTerminal = isatty(0);

  constructor() {
    this.ended = this.end.signal;
    for (const name of FORWARDED) process.on(name, (signal) => this.receive(signal));
  }

  /** From now on signals go to `application`. */
  passTo(application: ChildProcess): void {
    this.application = application;
  }

  private receive(signal: NodeJS.Signals): void {
    if (this.application !== undefined) {
      if (!this.inTerminal || !FROM_TERMINAL.has(signal)) this.application.kill(signal);
    } else if (ENDING.has(signal)) {
      this.endedBy ??= signal;
      this.end.abort();
    }
  }
}

/** @throws UserError (EXIT.unavailable) when the time is over */
async function waitUntilReady(client: AdminClient, timeoutMs: number, ended: AbortSignal): Promise<void> {
  const startMs = performance.now();
  let reportMs = startMs + FIRST_REPORT_MS;
  while (!ended.aborted) {
    const { ready, reasons } = await client.readiness();
    if (ready) return;
    const nowMs = performance.now();
    const waited = `${((nowMs - startMs) / 1000).toFixed(1)} s`;
    if (nowMs - startMs >= timeoutMs) {
      throw new UserError(
        `ferrule await: the proxy was not ready within ${waited}: ${reasons.join('; ')}`,
        EXIT.unavailable,
      );
    }
    if (nowMs >= reportMs) {
      say(`waiting for the proxy, ${waited} so far: ${reasons.join('; ')}`);
      reportMs = nowMs + REPORT_MS;
    }
    await sleep(POLL_MS);
  }
}

/** @throws UserError (EXIT.unavailable): better no application than one whose Job never ends */
function requireToken(client: AdminClient): void {
  try {
    client.token();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(
      `ferrule await: --shutdown needs the token, and ${error.message}; give --token-file`,
      EXIT.unavailable,
    );
  }
}

/** Tells the proxy that the application runs, now and whenever the proxy was restarted; says so once when that is impossible. */
async function register(client: AdminClient, done: AbortSignal): Promise<void> {
  try {
    const registration = await client.holdOpen();
    done.addEventListener('abort', () => registration.release(), { once: true });
    void registration.ended.then(() => renew(client, done));
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    say(`a stopping proxy will not wait for the application: ${error.message}`);
  }
}

async function renew(client: AdminClient, done: AbortSignal): Promise<void> {
  if (done.aborted) return;
  say('the proxy has ended; waiting for another one to tell it of the application');
  while (!done.aborted) {
    await sleep(REGISTER_MS);
    if ((await client.readiness()).ready && !done.aborted) return register(client, done);
  }
}

/** @returns the status to end with */
async function runApplication(cmd: readonly [string, ...string[]], signals: Signals): Promise<number> {
  const [program, ...args] = cmd;
  const application = spawn(program, args, { stdio: 'inherit' });
  signals.passTo(application);
  const exited = new Promise<number>((resolve) => {
    application.once('exit', (code, signal) =>
      resolve(signal === null ? (code ?? EXIT.failure) : statusOf(signal)),
    );
  });
  try {
    await once(application, 'spawn');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    say(`${program} cannot be run: ${code === 'ENOENT' ? 'there is no such program' : message}`);
    return code === 'ENOENT' ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
  }
  // Only signals can fail from here on, such as those to an application that has changed its user.
  application.on('error', (error) => say(`a signal was not passed on: ${error.message}`));
  return exited;
}

function statusOf(signal: NodeJS.Signals): number {
  return EXIT_SIGNAL + constants.signals[signal];
}

/** The application's status stays what it was, whatever becomes of this. */
async function shutDown(client: AdminClient): Promise<void> {
  try {
    await client.shutDown();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    say(`the proxy was not stopped: ${error.message}`);
  }
}

function say(text: string): void {
  process.stderr.write(`ferrule await: ${text}\n`);
}
