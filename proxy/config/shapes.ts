/**
 * The shapes settings take (one value, a list, a list of records) and the reading of what was written into
 * them. A reader reports and goes on, so that one run shows every mistake.
 */
import { nearest } from '../core/nearest.ts';
import { type Kind, Mistake, quote } from './kinds.ts';

/** Where something was written. */
export interface Place {
  /** As printed: `ferrule.yaml:12`, `FERRULE_WORKERS`, `--workers`. */
  readonly source: string;
  /** Sorts reports: the line in a file; the environment and flags come after any file. */
  readonly order: number;
}

/** What was written, before it means anything. Every scalar is text. */
export type Raw =
  | { readonly type: 'scalar'; readonly text: string; readonly place: Place }
  /** A key with nothing after it. */
  | { readonly type: 'nothing'; readonly place: Place }
  | { readonly type: 'list'; readonly items: readonly Raw[]; readonly place: Place }
  | RawMap;

/** Keys as written. */
export interface RawMap {
  readonly type: 'map';
  readonly entries: readonly { readonly key: string; readonly place: Place; readonly value: Raw }[];
  readonly place: Place;
}

/** One mistake, complete for its reader. */
export interface Problem {
  readonly place: Place;
  readonly message: string;
}

/** Collects mistakes, and remembers where values were written so that later checks can name the place. */
export class Findings {
  readonly problems: Problem[] = [];
  private readonly origins = new Map<object, { readonly place: Place; readonly name: string }>();
  private readonly settingPlaces = new Map<string, Place>();
  private readonly wrong = new Set<string>();

  /** Reports that the setting `name`, written at `place`, is wrong. */
  report(place: Place, name: string, message: string): void {
    this.problems.push({ place, message: name === '' ? message : `${name}: ${message}` });
  }

  /** Remembers where `value` comes from. */
  remember(value: object, place: Place, name: string): void {
    this.origins.set(value, { place, name });
  }

  /** Reads the setting `name`, remembering where it was written and whether anything was wrong with it. */
  readSetting<T>(shape: Shape<T>, raw: Raw, name: string, base: string): T | undefined {
    const before = this.problems.length;
    const value = shape.read(raw, name, base, this);
    this.settingPlaces.set(name, raw.place);
    if (this.problems.length > before) this.wrong.add(name);
    return value;
  }

  /** Where the setting `name` was written, the last of several; undefined for a default. */
  settingPlace(name: string): Place | undefined {
    return this.settingPlaces.get(name);
  }

  /** True when something written for the setting `name` was reported: no value of it proves anything then. */
  isWrong(name: string): boolean {
    return this.wrong.has(name);
  }

  /** Where `value` was written and as which setting; undefined for a default. */
  origin(value: object): { readonly place: Place; readonly name: string } | undefined {
    return this.origins.get(value);
  }
}

/** How a setting is written and read. */
export interface Shape<T> {
  /** True when several values may be given. */
  readonly isList: boolean;
  /** The value of `raw`; undefined after its mistakes were reported. Relative paths start from `base`. */
  read(raw: Raw, name: string, base: string, findings: Findings): T | undefined;
  /** What the text of an environment variable or flag stands for. */
  fromText(text: string, place: Place): Raw;
  /** `value` as YAML on one line. */
  format(value: T): string;
}

/** One value. */
export function scalar<T>(kind: Kind<T>): Shape<T> {
  return {
    isList: false,
    read(raw, name, base, findings) {
      const value =
        raw.type === 'scalar' ? kind.parse(raw.text, base) : new Mistake(wrongShape(raw, kind.allowed));
      if (!(value instanceof Mistake)) {
        if (typeof value === 'object' && value !== null) findings.remember(value, raw.place, name);
        return value;
      }
      findings.report(raw.place, name, value.message);
      return undefined;
    },
    fromText: (text, place) => ({ type: 'scalar', text: text.trim(), place }),
    format: (value) => formatScalar(kind.format(value)),
  };
}

/** A list, which may be written as a single value; in text comma-separated, `[]` when empty. */
export function list<T>(item: Shape<T>): Shape<readonly T[]> {
  return {
    isList: true,
    read(raw, name, base, findings) {
      if (raw.type === 'nothing') {
        findings.report(raw.place, name, 'has no value: leave it out for the default, or write []');
        return undefined;
      }
      const values: T[] = [];
      for (const [index, element] of (raw.type === 'list' ? raw.items : [raw]).entries()) {
        const value = item.read(element, `${name}[${index}]`, base, findings);
        if (value !== undefined) values.push(value);
      }
      return values;
    },
    fromText(text, place) {
      if (text.trim() === '[]') return { type: 'list', items: [], place };
      const items = text.split(',').map((part) => item.fromText(part, place));
      return { type: 'list', items, place };
    },
    format: (values) =>
      values.length === 0 ? '[]' : `[ ${values.map((value) => item.format(value)).join(', ')} ]`,
  };
}

/** A field of a record. */
interface Field<T> {
  readonly kind: Kind<T>;
  readonly required: boolean;
}

/** A field that must be there. */
export function required<T>(kind: Kind<T>): Field<T> {
  return { kind, required: true };
}

/** A field that may be left out; it is undefined then. */
export function optional<T>(kind: Kind<T>): Field<T | undefined> {
  return { kind, required: false };
}

type Fields<R> = { readonly [K in keyof R]: Field<R[K]> };

/**
 * A map with fixed keys.
 * @param shorthand how it is written in an environment variable or flag: the keys, and what separates each
 * from the one before, as in `['listen', '=', 'service']`; trailing keys may be left out when they are
 * optional.
 */
export function record<R extends object>(fields: Fields<R>, shorthand: readonly string[]): Shape<R> {
  const keys = Object.keys(fields) as (keyof R & string)[];
  return {
    isList: false,
    read(raw, name, base, findings) {
      if (raw.type !== 'map') {
        findings.report(
          raw.place,
          name,
          `${wrongShape(raw, `a map of ${keys.join(', ')}`)} (${asText(shorthand)})`,
        );
        return undefined;
      }
      reportUnknownKeys(raw, name, keys, findings);
      const value: Partial<R> = {};
      let complete = true;
      for (const key of keys) {
        const entry = raw.entries.find((candidate) => candidate.key === key);
        const field = fields[key];
        const fieldName = `${name}.${key}`;
        const read = entry && scalar(field.kind).read(entry.value, fieldName, base, findings);
        if (entry === undefined && field.required) findings.report(raw.place, fieldName, 'is missing');
        if (read === undefined && (entry !== undefined || field.required)) complete = false;
        if (read !== undefined) value[key] = read;
      }
      if (!complete) return undefined;
      findings.remember(value, raw.place, name);
      return value as R;
    },
    fromText: (text, place) => splitShorthand(text.trim(), shorthand, place),
    format(value) {
      const given = keys.filter((key) => value[key] !== undefined);
      return `{ ${given.map((key) => `${key}: ${scalar(fields[key].kind).format(value[key])}`).join(', ')} }`;
    },
  };
}

/** Reports every key of `map` that is not in `allowed`. */
export function reportUnknownKeys(
  map: RawMap,
  name: string,
  allowed: readonly string[],
  findings: Findings,
  hint: (key: string) => string = () => '',
): void {
  for (const { key, place } of map.entries) {
    if (allowed.includes(key)) continue;
    const guess = nearest(key, allowed);
    const advice = guess === undefined ? hint(key) : `; did you mean ${guess}?`;
    const fullName = name === '' ? quote(key) : `${name}: ${quote(key)}`;
    findings.report(place, '', `${fullName} is unknown${advice || '.'} Allowed here: ${allowed.join(', ')}`);
  }
}

function wrongShape(raw: Raw, wanted: string): string {
  if (raw.type === 'nothing') return 'has no value: leave it out or give it one';
  return `must be ${wanted}, is ${raw.type === 'scalar' ? quote(raw.text) : `a ${raw.type}`}`;
}

function asText(shorthand: readonly string[]): string {
  return `in text ${shorthand.map((part, index) => (index % 2 === 0 ? part.toUpperCase() : part)).join('')}`;
}

/** Text without the first separator stays a scalar, which the record then reports. */
function splitShorthand(text: string, shorthand: readonly string[], place: Place): Raw {
  const entries: { key: string; place: Place; value: Raw }[] = [];
  let rest = text;
  for (let i = 0; i < shorthand.length; i += 2) {
    const separator = shorthand[i + 1];
    const end = separator === undefined ? -1 : rest.indexOf(separator);
    const part = end < 0 ? rest : rest.slice(0, end);
    entries.push({ key: shorthand[i], place, value: { type: 'scalar', text: part.trim(), place } });
    if (end < 0) break;
    rest = rest.slice(end + separator.length);
  }
  return entries.length < 2 ? { type: 'scalar', text, place } : { type: 'map', entries, place };
}

/** Plain where YAML reads it back as it is, also between brackets. */
function formatScalar(text: string): string {
  return /^[A-Za-z0-9/.][\w./:-]*$/.test(text) ? text : JSON.stringify(text);
}
