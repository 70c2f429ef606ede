/**
 * The nat table as iptables-save prints it, as far as it is ours, and the input for iptables-restore that turns one state
 * of it into another in a single transaction. Foreign rules are neither read closely nor written.
 */

import { formatRule, OWN_CHAINS, type Rule } from './rules.ts';

/** What of the nat table is ours. Lines are `-A CHAIN …` without counters. */
export interface OwnState {
  /** Lines of each of our chains that exists, in order. */
  readonly chains: ReadonlyMap<string, readonly string[]>;
  /** Lines of foreign chains that jump into ours, in order. */
  readonly jumps: readonly string[];
}

/** A whole nat table: our part, and what is known of the rest. */
export interface NatTable extends OwnState {
  /** Number of rules that are not ours. */
  readonly foreignRules: number;
  /** Packets counted by each of our rules, by its comment. */
  readonly packets: ReadonlyMap<string, number>;
}

/** Nothing of ours. */
export const NOTHING: OwnState = { chains: new Map(), jumps: [] };

/** True when nothing of ours is in the table. */
export function isNothing(state: OwnState): boolean {
  return state.chains.size === 0 && state.jumps.length === 0;
}

/** Reads the nat table out of the output of `iptables-save -c`; other tables are skipped. */
export function parseSave(text: string): NatTable {
  const chains = new Map<string, string[]>();
  const packets = new Map<string, number>();
  const jumps: string[] = [];
  let foreignRules = 0;
  let inNat = false;
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) inNat = line === '*nat';
    if (!inNat) continue;
    const declared = /^:(\S+) /.exec(line);
    if (declared !== null && OWN_CHAINS.includes(declared[1])) chains.set(declared[1], []);
    const rule = /^(?:\[(\d+):\d+\] )?(-A (\S+) .*)$/.exec(line);
    if (rule === null) continue;
    const [, count, body, chain] = rule;
    const words = ruleWords(body);
    if (chains.has(chain)) chains.get(chain)!.push(body);
    else if (OWN_CHAINS.includes(target(words))) jumps.push(body);
    else foreignRules++;
    const comment = words[words.indexOf('--comment') + 1];
    if (comment.startsWith('ferrule/')) packets.set(comment, Number(count ?? 0));
  }
  return { chains, jumps, foreignRules, packets };
}

/** The state that `rules` describe. */
export function stateOf(rules: readonly Rule[]): OwnState {
  const chains = new Map<string, string[]>();
  const jumps: string[] = [];
  for (const rule of rules) {
    const line = formatRule(rule);
    if (!OWN_CHAINS.includes(rule.chain)) jumps.push(line);
    else if (chains.has(rule.chain)) chains.get(rule.chain)!.push(line);
    else chains.set(rule.chain, [line]);
  }
  return { chains, jumps };
}

/**
 * Input for `iptables-restore --noflush` that turns `from` into `to`: our chains are created or flushed and filled, a
 * jump that is already there stays where it is (its place among foreign rules is kept), everything else of ours goes.
 * @returns undefined when there is nothing to do
 */
export function transition(from: OwnState, to: OwnState): string | undefined {
  if (isNothing(from) && isNothing(to)) return undefined;
  const missing = [...to.jumps];
  const superfluous = from.jumps.filter((jump) => {
    const index = missing.findIndex((wanted) => sameRule(wanted, jump));
    if (index >= 0) missing.splice(index, 1);
    return index < 0;
  });
  const gone = [...from.chains.keys()].filter((chain) => !to.chains.has(chain));
  return [
    '*nat',
    // Declaring a chain creates it or, when it exists, flushes it.
    ...[...to.chains.keys()].map((chain) => `:${chain} - [0:0]`),
    ...superfluous.map((jump) => jump.replace(/^-A/, '-D')),
    ...[...to.chains.values()].flat(),
    ...missing,
    ...gone.map((chain) => `-F ${chain}`),
    ...gone.map((chain) => `-X ${chain}`),
    'COMMIT\n',
  ].join('\n');
}

/** Differences between what should be installed and what is, one sentence each; empty when there are none. */
export function differences(wanted: OwnState, found: OwnState): string[] {
  const sentences: string[] = [];
  for (const [chain, lines] of wanted.chains) {
    const there = found.chains.get(chain);
    if (there === undefined) sentences.push(`chain ${chain} is missing`);
    else sentences.push(...lineDifferences(chain, lines, there));
  }
  for (const jump of wanted.jumps) {
    const count = found.jumps.filter((line) => sameRule(line, jump)).length;
    if (count === 0) sentences.push(`missing: ${jump}`);
    if (count > 1) sentences.push(`there ${count} times instead of once: ${jump}`);
  }
  for (const jump of found.jumps) {
    if (!wanted.jumps.some((line) => sameRule(line, jump))) sentences.push(`unexpected: ${jump}`);
  }
  return sentences;
}

function lineDifferences(chain: string, wanted: readonly string[], found: readonly string[]): string[] {
  const missing = wanted.filter((line) => !found.some((other) => sameRule(line, other)));
  const unexpected = found.filter((line) => !wanted.some((other) => sameRule(line, other)));
  const sentences = [
    ...missing.map((line) => `missing: ${line}`),
    ...unexpected.map((line) => `unexpected: ${line}`),
  ];
  if (sentences.length > 0) return sentences;
  const inOrder =
    wanted.length === found.length && wanted.every((line, index) => sameRule(line, found[index]));
  return inOrder ? [] : [`the rules of ${chain} are not in their order, or some are there twice`];
}

/** Equal up to what versions of iptables print differently: quotes, the order of matches, `-m` before a match. */
function sameRule(a: string, b: string): boolean {
  return canonical(a) === canonical(b);
}

function canonical(line: string): string {
  const words = ruleWords(line);
  const pairs: string[] = [];
  for (let index = 0; index < words.length; index++) {
    if (words[index] === '-m') index++;
    else if (words[index].startsWith('-')) pairs.push(words[index]);
    else pairs[pairs.length - 1] += ` ${words[index]}`;
  }
  return pairs.sort().join('\n');
}

/** Words of a saved rule; quoted ones (comments) without their quotes. */
function ruleWords(line: string): string[] {
  return (line.match(/"(?:[^"\\]|\\.)*"|\S+/g) ?? []).map((word) =>
    word.startsWith('"') ? word.slice(1, -1).replaceAll(/\\(.)/g, '$1') : word,
  );
}

function target(words: readonly string[]): string {
  const index = words.findIndex((word) => word === '-j' || word === '-g');
  return index < 0 ? '' : (words[index + 1] ?? '');
}
