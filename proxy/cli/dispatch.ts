/** From the arguments of the process to one command and its exit status. */

import { EXIT, UserError } from '../core/errors.ts';
import { nearest } from '../core/nearest.ts';
import { type Command, formatColumns } from './command.ts';

/** Commands by name, in the order of the help text. Loaded only when called, or to print their summaries. */
export type Registry = Readonly<Record<string, () => Promise<{ readonly command: Command }>>>;

/** Where the dispatcher writes and what it knows of the program. */
export interface Surroundings {
  out(text: string): void;
  err(text: string): void;
  version(): string;
}

/**
 * Runs what `args` (without node and script) ask for.
 * @returns the exit status: the command's own, a UserError's, 64 for an unknown command, 1 for a bug
 */
export async function dispatch(
  args: readonly string[],
  registry: Registry,
  around: Surroundings,
): Promise<number> {
  try {
    return await choose(args, registry, around);
  } catch (error) {
    if (error instanceof UserError) {
      around.err(`${error.message}\n`);
      return error.exitCode;
    }
    const trace = error instanceof Error ? (error.stack ?? error.message) : String(error);
    around.err(
      `${trace}\nferrule ${around.version()}: this is a bug; please report it with the lines above\n`,
    );
    return EXIT.failure;
  }
}

async function choose(args: readonly string[], registry: Registry, around: Surroundings): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined) {
    around.err(await overview(registry));
    return EXIT.usage;
  }
  if (name === '--version' || name === '-V') {
    around.out(`ferrule ${around.version()}\n`);
    return EXIT.ok;
  }
  // `ferrule help CMD` because half of all command lines teach it.
  const asked = name === 'help' ? rest[0] : name;
  if (asked === undefined || asked === '--help' || asked === '-h') {
    around.out(await overview(registry));
    return EXIT.ok;
  }
  if (!Object.hasOwn(registry, asked)) throw unknownCommand(asked, registry);
  const { command } = await registry[asked]();
  if (name === 'help' || wantsHelp(rest)) {
    around.out(command.usage);
    return EXIT.ok;
  }
  return command.run(rest);
}

function unknownCommand(name: string, registry: Registry): UserError {
  if (name.startsWith('-')) {
    return new UserError(
      `ferrule: unknown option ${name} before a command\nsee \`ferrule --help\``,
      EXIT.usage,
    );
  }
  const guess = nearest(name, Object.keys(registry));
  const hint = guess === undefined ? '' : `; did you mean \`ferrule ${guess}\`?`;
  return new UserError(
    `ferrule: unknown command ${JSON.stringify(name)}${hint}\nsee \`ferrule --help\``,
    EXIT.usage,
  );
}

/** True when the command's own help is asked for; what follows `--` belongs to somebody else. */
function wantsHelp(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  const own = end < 0 ? args : args.slice(0, end);
  return own.includes('--help') || own.includes('-h');
}

async function overview(registry: Registry): Promise<string> {
  const modules = await Promise.all(Object.values(registry).map((load) => load()));
  return [
    'Usage: ferrule COMMAND [OPTIONS]',
    '',
    'A transparent sidecar proxy: mutual TLS, balancing and golden metrics without a change to the application.',
    '',
    'Commands:',
    ...formatColumns(modules.map(({ command }) => [command.name, command.summary])),
    '',
    '`ferrule COMMAND --help` tells everything about a command; `ferrule --version` prints the version.',
    '',
  ].join('\n');
}
