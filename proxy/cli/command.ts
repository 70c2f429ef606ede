/**
 * What a command of `ferrule` is, and the one table from which its `--help` text and its parsing come. Everything here
 * is on the way to every command, so it imports next to nothing.
 */

import { parseArgs } from 'node:util';
import { EXIT, UserError } from '../core/errors.ts';
import { nearest } from '../core/nearest.ts';

/** One subcommand. Its module exports it as `command` and loads whatever is heavy inside `run`. */
export interface Command {
  readonly name: string;
  /** One line for the list in `ferrule --help`; no full stop. */
  readonly summary: string;
  /** What `ferrule NAME --help` prints; made by `formatUsage`. */
  readonly usage: string;
  /**
   * @param args what follows the command's name
   * @returns the exit status
   * @throws UserError for everything its user can mend
   */
  run(args: readonly string[]): Promise<number>;
}

/** One option. Without `value` it is a switch. */
export interface OptionSpec {
  /** A single letter. */
  readonly short?: string;
  /** Placeholder of the value in the help text, in capitals. */
  readonly value?: string;
  /** May be repeated; `list` then gives every value. */
  readonly multiple?: true;
  /** Used when the option is not given; only with `value`. */
  readonly default?: string;
  /** Continues in the next lines as long as it must; no full stop. */
  readonly help: string;
}

/** Options by their long name, in the order the help text shows them. */
export type OptionTable = Readonly<Record<string, OptionSpec>>;

/** A command's face: enough to print its help and to parse its arguments. */
export interface CommandFace<Options extends OptionTable = OptionTable> {
  readonly name: string;
  readonly summary: string;
  /** Placeholder of what may follow the options (`-- CMD…`); nothing may when absent. */
  readonly positionals?: string;
  /** Paragraphs between the summary and the options. */
  readonly description?: string;
  readonly options: Options;
  /** Lines to copy, each with a comment or none. */
  readonly examples?: readonly string[];
}

/** Parsed arguments. The names are checked by the compiler against the table. */
export interface ParsedOptions<Options extends OptionTable> {
  /** True when the switch was given. */
  flag(name: keyof Options & string): boolean;
  /** The last value given, or the default of the table, or undefined. */
  text(name: keyof Options & string): string | undefined;
  /** Every value given, in order; empty when none was. */
  list(name: keyof Options & string): readonly string[];
  readonly positionals: readonly string[];
}

/**
 * Parses a command's arguments.
 * @param mistakes when given, mistakes are added to it and the caller throws `usageError` once it has found its own
 * @throws UserError (exit 64) naming every mistake at once, when `mistakes` is not given
 */
export function parseOptions<const Options extends OptionTable>(
  face: CommandFace<Options>,
  args: readonly string[],
  mistakes?: string[],
): ParsedOptions<Options> {
  const found = mistakes ?? [];
  const values = new Map<string, string[]>();
  const positionals: string[] = [];
  // Not strict: parseArgs stops at the first mistake, users want to see all of them.
  const { tokens } = parseArgs({
    args: [...args],
    options: parseArgsTable(face.options),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  for (const [index, token] of tokens.entries()) {
    const before = tokens[index - 1];
    if (token.kind === 'positional') {
      positionals.push(token.value);
      // What follows an unknown option is most likely its value: one mistake, not two.
      const excused = before?.kind === 'option' && !Object.hasOwn(face.options, before.name);
      if (face.positionals === undefined && !excused) found.push(`unexpected argument ${quote(token.value)}`);
    } else if (token.kind === 'option') {
      const mistake = optionMistake(face.options, token);
      if (mistake !== undefined) found.push(mistake);
      else values.set(token.name, [...(values.get(token.name) ?? []), token.value ?? '']);
    }
  }
  if (mistakes === undefined && found.length > 0) throw usageError(face.name, found);
  return {
    flag: (name) => values.has(name),
    text: (name) => values.get(name)?.at(-1) ?? face.options[name].default,
    list: (name) => values.get(name) ?? [],
    positionals,
  };
}

/** The error for a wrong command line: every mistake on a line of its own, then where to read more. Exit 64. */
export function usageError(command: string, mistakes: readonly string[]): UserError {
  const help = `see \`ferrule ${command} --help\``;
  const text =
    mistakes.length === 1
      ? `ferrule ${command}: ${mistakes[0]}\n${help}`
      : `ferrule ${command}: ${mistakes.length} mistakes:\n${mistakes.map((m) => `  ${m}`).join('\n')}\n${help}`;
  return new UserError(text, EXIT.usage);
}

/** The text of `ferrule NAME --help`, at most 100 columns wide where the words allow it. */
export function formatUsage(face: CommandFace): string {
  const rows = Object.entries(face.options).map(([name, spec]) => optionRow(name, spec));
  rows.push(['-h, --help', 'print this text']);
  const tail = face.positionals === undefined ? '' : ` ${face.positionals}`;
  const parts = [
    `Usage: ferrule ${face.name} [OPTIONS]${tail}`,
    '',
    `${face.summary[0].toUpperCase()}${face.summary.slice(1)}.`,
  ];
  if (face.description !== undefined) parts.push('', face.description.trim());
  parts.push('', 'Options:', ...formatColumns(rows));
  if (face.examples !== undefined) parts.push('', 'Examples:', ...face.examples.map((line) => `  ${line}`));
  return `${parts.join('\n')}\n`;
}

/**
 * Lays out two columns, the second wrapped at 100 columns.
 * @returns lines, indented by two spaces
 */
export function formatColumns(rows: readonly (readonly [string, string])[]): string[] {
  // Wider first columns get a line of their own, else one long option would squeeze every explanation.
  const left = Math.min(34, Math.max(...rows.map(([first]) => first.length)));
  const lines: string[] = [];
  for (const [first, second] of rows) {
    const wrapped = wrap(second, 100 - left - 4);
    const own = first.length > left;
    if (own) lines.push(`  ${first}`);
    for (const [index, text] of wrapped.entries()) {
      lines.push(`  ${(index === 0 && !own ? first : '').padEnd(left)}  ${text}`);
    }
  }
  return lines;
}

interface OptionToken {
  readonly name: string;
  readonly rawName: string;
  readonly value: string | undefined;
  readonly inlineValue: boolean | undefined;
}

function optionMistake(table: OptionTable, token: OptionToken): string | undefined {
  if (!Object.hasOwn(table, token.name)) {
    const guess = nearest(token.name, Object.keys(table));
    return `unknown option ${token.rawName}${guess === undefined ? '' : `; did you mean --${guess}?`}`;
  }
  const spec = table[token.name];
  if (spec.value === undefined) {
    return token.value === undefined
      ? undefined
      : `${token.rawName} takes no value, got ${quote(token.value)}`;
  }
  if (token.value === undefined || token.value === '') return `${token.rawName} needs a value: ${spec.value}`;
  // `--a --b` is a forgotten value far more often than a value that starts with a dash.
  if (!token.inlineValue && token.value.startsWith('-')) {
    return `${token.rawName} needs a value: ${spec.value} (a value starting with - is written ${token.rawName}=…)`;
  }
  return undefined;
}

function parseArgsTable(table: OptionTable) {
  const options: Record<string, { type: 'string' | 'boolean'; short?: string }> = {};
  for (const [name, spec] of Object.entries(table)) {
    options[name] = { type: spec.value === undefined ? 'boolean' : 'string' };
    if (spec.short !== undefined) options[name].short = spec.short;
  }
  return options;
}

function optionRow(name: string, spec: OptionSpec): [string, string] {
  const short = spec.short === undefined ? '    ' : `-${spec.short}, `;
  const value = spec.value === undefined ? '' : ` ${spec.value}`;
  const repeat = spec.multiple === true ? '; may be repeated' : '';
  const standard = spec.default === undefined ? '' : ` (default ${spec.default})`;
  return [`${short}--${name}${value}`, `${spec.help}${repeat}${standard}`];
}

/** Lines of at most `width` characters where the words allow it; blanks between words become one. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/)) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}

function quote(text: string): string {
  return JSON.stringify(text);
}
