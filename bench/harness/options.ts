/** The command line. */

import { parseArgs } from 'node:util';
import { EXIT, UserError } from '../../proxy/core/errors.ts';
import { nearest } from '../../proxy/core/nearest.ts';

/** What was asked for. */
export interface BenchOptions {
  /** Names, in the order of the catalog; undefined for all. */
  readonly scenarios: readonly string[] | undefined;
  readonly peers: readonly string[] | undefined;
  readonly rounds: number;
  /** How long each measured load lasts. */
  readonly seconds: number;
  /** Connections of scenarios that count them. */
  readonly connections: number;
  readonly json: string | undefined;
  readonly markdown: string | undefined;
  readonly svg: string | undefined;
  readonly list: boolean;
  readonly help: boolean;
}

/** For `--help`. */
export const USAGE = `Usage: npm run bench -- [OPTIONS]

Runs every peer found on this machine through every scenario, interleaved, and compares ferrule with the best
of them. Tables go to standard output, progress to standard error. The exit status is 1 when a peer failed or a
scenario could not run; a missed target alone is a result, not a failure.

  --scenario A,B     only these scenarios
  --peer X,Y         only these peers; one that is not installed is an error
  --rounds N         rounds per case, 1 to 100 (default 5)
  --seconds S        how long each load lasts, 1 to 600 (default 5; the kernel counts CPU in steps of 10 ms)
  --connections N    idle connections, 1 to 9000 (default 4000)
  --json FILE        write everything, raw measurements included
  --markdown FILE    write the tables
  --svg FILE         write a chart
  --list             show scenarios and peers, and end
`;

const NAME = { type: 'string', multiple: true } as const;
const TEXT = { type: 'string' } as const;
const FLAG = { type: 'boolean', default: false } as const;

/**
 * Parses the arguments after node and script.
 * @throws UserError (64) for an unknown option, name or number out of range
 */
export function parseOptions(
  args: readonly string[],
  known: { readonly scenarios: readonly string[]; readonly peers: readonly string[] },
): BenchOptions {
  const values = parse(args);
  return {
    scenarios: names('scenario', values.scenario, known.scenarios),
    peers: names('peer', values.peer, known.peers),
    rounds: integer('rounds', values.rounds, 1, 100),
    seconds: integer('seconds', values.seconds, 1, 600),
    // 9,000: two descriptors each in the proxy, below the usual hard limit of 20,000.
    connections: integer('connections', values.connections, 1, 9000),
    json: values.json,
    markdown: values.markdown,
    svg: values.svg,
    list: values.list,
    help: values.help,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        scenario: NAME,
        peer: NAME,
        rounds: { ...TEXT, default: '5' },
        seconds: { ...TEXT, default: '5' },
        connections: { ...TEXT, default: '4000' },
        json: TEXT,
        markdown: TEXT,
        svg: TEXT,
        list: FLAG,
        help: { ...FLAG, short: 'h' },
      },
    }).values;
  } catch (error) {
    throw wrong((error as Error).message);
  }
}

function names(option: string, given: readonly string[] | undefined, known: readonly string[]) {
  if (given === undefined) return undefined;
  const asked = given.flatMap((text) => text.split(',')).map((name) => name.trim());
  for (const name of asked) {
    if (known.includes(name)) continue;
    const guess = nearest(name, known);
    const hint = guess === undefined ? `there are ${known.join(', ')}` : `did you mean ${guess}?`;
    throw wrong(`--${option}: there is no ${JSON.stringify(name)}; ${hint}`);
  }
  return known.filter((name) => asked.includes(name));
}

function integer(option: string, text: string, least: number, greatest: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= greatest) return value;
  throw wrong(`--${option}: must be a whole number from ${least} to ${greatest}, is ${JSON.stringify(text)}`);
}

function wrong(message: string): UserError {
  return new UserError(`${message}\nsee npm run bench -- --help`, EXIT.usage);
}
