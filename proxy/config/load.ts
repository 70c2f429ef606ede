/** Reads the configuration: the file, overridden by environment variables, overridden by flags. */
import { createReadStream } from 'node:fs';
import { availableParallelism, hostname } from 'node:os';
import { dirname, relative, resolve } from 'node:path';
import { EXIT, UserError } from '../core/errors.ts';
import { nearest } from '../core/nearest.ts';
import { checkTogether } from './checks.ts';
import type { Config } from './config.ts';
import { NAMED_SETTINGS, SETTINGS, Setting, type Values } from './settings.ts';
import { Findings, type Raw, type RawMap, reportUnknownKeys } from './shapes.ts';
import { parseYaml } from './yaml.ts';

/** What the configuration is made from. */
export interface ConfigInput {
  /** Path of the YAML file; `FERRULE_CONFIG` when absent, no file when both are. */
  readonly file?: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** Values by the names of `NamedSetting.flag`, without dashes. */
  readonly flags: Readonly<Record<string, string>>;
}

/** The settings' values under their names. */
type Layer = ReadonlyMap<string, unknown>;

/** Names the file, where no `--config` does. */
const FILE_VARIABLE = 'FERRULE_CONFIG';
/** A megabyte of settings is a wrong file, not a long one. */
const MAX_FILE_BYTES = 1 << 20;
/** Whoever has more mistakes than this has given the wrong file. */
const MAX_REPORTS = 100;
/** Reports about the environment and flags come after those about any line. */
const ENV_ORDER = Number.MAX_SAFE_INTEGER - 1;
const FLAG_ORDER = Number.MAX_SAFE_INTEGER;
/** What Kubernetes sets for every Service of the namespace; `<SERVICE>_PORT`, a URL, is the third. */
const SERVICE_LINK = /_SERVICE_HOST$|_SERVICE_PORT(_|$)|_PORT_\d+_(TCP|UDP|SCTP)/;
/** The default file system error is a riddle to half of its readers. */
const FILE_ERRORS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EISDIR: 'it is a directory: name a file in it',
  EACCES: 'this user may not read it',
  ERR_ENCODING_INVALID_ENCODED_DATA: 'it is not UTF-8 text',
};

/**
 * Loads and checks the configuration.
 * @throws UserError (EXIT.usage) that names every mistake with its file and line, variable or flag.
 */
export async function loadConfig(input: ConfigInput): Promise<Config> {
  const findings = new Findings();
  const file = input.file ?? (input.env[FILE_VARIABLE] || undefined);
  const layers = [
    file === undefined ? new Map() : await readFileLayer(file, findings),
    readEnvironment(input.env, findings),
    readFlags(input.flags, findings),
  ];
  const values = merge(layers);
  checkTogether(values, findings);
  if (findings.problems.length > 0) throw mistakes(findings);
  return build(values, file);
}

async function readFileLayer(file: string, findings: Findings): Promise<Layer> {
  const name = displayName(file);
  const text = await readText(file, name, findings);
  const map = text === undefined ? undefined : await parseYaml(text, name, findings);
  const layer = new Map<string, unknown>();
  if (map !== undefined) readTable(map, SETTINGS, '', dirname(resolve(file)), findings, layer);
  return layer;
}

async function readText(file: string, name: string, findings: Findings): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  try {
    // A stream reads pipes too (`--config <(…)`), and stops in time on what has no end.
    for await (const chunk of createReadStream(file, { end: MAX_FILE_BYTES })) chunks.push(chunk);
    const bytes = Buffer.concat(chunks);
    if (bytes.length <= MAX_FILE_BYTES) return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    findings.report(
      { source: name, order: 0 },
      '',
      `is longer than ${MAX_FILE_BYTES} bytes: no configuration is`,
    );
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    findings.report({ source: name, order: 0 }, '', `cannot be read: ${FILE_ERRORS[code ?? ''] ?? message}`);
  }
  return undefined;
}

/** Reads one level of the file into `layer`: the top, or a section. */
function readTable(
  map: RawMap,
  table: object,
  prefix: string,
  base: string,
  findings: Findings,
  layer: Map<string, unknown>,
): void {
  reportUnknownKeys(map, prefix, Object.keys(table), findings, elsewhere);
  for (const { key, value } of map.entries) {
    if (!Object.hasOwn(table, key)) continue;
    const name = prefix === '' ? key : `${prefix}.${key}`;
    const entry = (table as Record<string, unknown>)[key];
    if (entry instanceof Setting) readInto(layer, name, entry, value, base, findings);
    else if (value.type === 'map') readTable(value, entry as object, name, base, findings, layer);
    else if (value.type !== 'nothing') {
      findings.report(value.place, name, `must be a map of ${Object.keys(entry as object).join(', ')}`);
    }
  }
}

/** Where a key that is wrong here would be right. */
function elsewhere(key: string): string {
  const places = NAMED_SETTINGS.filter(({ name }) => name.endsWith(`.${key}`)).map(({ name }) => name);
  return places.length === 0 ? '' : `; it exists as ${places.join(', ')}.`;
}

function readEnvironment(env: NodeJS.ProcessEnv, findings: Findings): Layer {
  const layer = new Map<string, unknown>();
  for (const { name, env: variable, setting } of NAMED_SETTINGS) {
    const text = env[variable];
    // Compose files and charts pass variables they have no value for as empty ones.
    if (text === undefined || text.trim() === '') continue;
    const raw = setting.shape.fromText(text, { source: variable, order: ENV_ORDER });
    readInto(layer, name, setting, raw, process.cwd(), findings);
  }
  for (const [variable, text] of Object.entries(env)) reportUnknownVariable(variable, text ?? '', findings);
  return layer;
}

/**
 * Other variables may bear our prefix (an image's version, what Kubernetes makes of a service called
 * ferrule): only those that can hardly be anything else than a misspelt setting are mistakes.
 */
function reportUnknownVariable(variable: string, text: string, findings: Findings): void {
  if (!variable.startsWith('FERRULE_') || variable === FILE_VARIABLE) return;
  if (SERVICE_LINK.test(variable) || (variable.endsWith('_PORT') && text.includes('://'))) return;
  if (NAMED_SETTINGS.some(({ env }) => env === variable)) return;
  const bare = NAMED_SETTINGS.map(({ env }) => env.slice('FERRULE_'.length));
  const guess = nearest(variable.slice('FERRULE_'.length), bare);
  const section = Object.keys(SETTINGS).find((key) => variable.startsWith(`FERRULE_${key.toUpperCase()}_`));
  if (guess === undefined && section === undefined) return;
  const advice = guess === undefined ? '' : `; did you mean FERRULE_${guess}?`;
  findings.report({ source: variable, order: ENV_ORDER }, '', `there is no such setting${advice}`);
}

function readFlags(flags: Readonly<Record<string, string>>, findings: Findings): Layer {
  const layer = new Map<string, unknown>();
  for (const [flag, text] of Object.entries(flags)) {
    const known = NAMED_SETTINGS.find((candidate) => candidate.flag === flag);
    const place = { source: `--${flag}`, order: FLAG_ORDER };
    if (known !== undefined) {
      const raw = known.setting.shape.fromText(text, place);
      readInto(layer, known.name, known.setting, raw, process.cwd(), findings);
      continue;
    }
    const guess = nearest(
      flag,
      NAMED_SETTINGS.map((candidate) => candidate.flag),
    );
    findings.report(
      place,
      '',
      `there is no such flag${guess === undefined ? '' : `; did you mean --${guess}?`}`,
    );
  }
  return layer;
}

function readInto(
  layer: Map<string, unknown>,
  name: string,
  setting: Setting<unknown>,
  raw: Raw,
  base: string,
  findings: Findings,
): void {
  const value = findings.readSetting(setting.shape, raw, name, base);
  if (value !== undefined) layer.set(name, value);
}

/** The last layer that has a setting wins; what none has is its default. */
function merge(layers: readonly Layer[]): Values<typeof SETTINGS> {
  const root: Record<string, unknown> = {};
  for (const { name, setting } of NAMED_SETTINGS) {
    const layer = layers.findLast((candidate) => candidate.has(name));
    const value = layer === undefined ? setting.default : layer.get(name);
    const [key, inner] = name.split('.');
    if (inner === undefined) root[key] = value;
    else root[key] = { ...(root[key] as object), [inner]: value };
  }
  return root as Values<typeof SETTINGS>;
}

function build(values: Values<typeof SETTINGS>, file: string | undefined): Config {
  const { outbound, inbound, workload } = values;
  const { discoveryTimeout, ...outboundRest } = outbound;
  return {
    ...values,
    file: file === undefined ? undefined : resolve(file),
    workload: { ...workload, pod: workload.pod ?? hostname() },
    identity: identityOf(values.identity),
    outbound: { ...outboundRest, discoveryTimeoutMs: discoveryTimeout },
    inbound: {
      ...inbound,
      ports: inbound.ports.map((port) => ({ ...port, policy: port.policy ?? inbound.defaultPolicy })),
    },
    // 64 is the most the setting allows; a larger machine is better served by more pods than by more threads.
    workers: values.workers === 'auto' ? Math.min(64, availableParallelism()) : values.workers,
    shutdown: {
      graceMs: values.shutdown.grace,
      drainDelayMs: Math.min(values.shutdown.drainDelay, values.shutdown.grace),
    },
  };
}

/** `checkTogether` has seen to it that files come with all three paths. */
function identityOf({ source, certificate, key, trustAnchors }: Values<typeof SETTINGS>['identity']) {
  if (source === 'none' || certificate === undefined || key === undefined || trustAnchors === undefined) {
    return { source: 'none' } as const;
  }
  return { source: 'files', certificate, key, trustAnchors } as const;
}

/** Shorter of the path as given and relative to here. */
function displayName(file: string): string {
  const short = relative(process.cwd(), file);
  return short !== '' && short.length < file.length ? short : file;
}

function mistakes(findings: Findings): UserError {
  const sorted = findings.problems.toSorted((a, b) => a.place.order - b.place.order);
  const lines = sorted.slice(0, MAX_REPORTS).map(({ place, message }) => `${place.source}: ${message}`);
  if (sorted.length > MAX_REPORTS) lines.push(`and ${sorted.length - MAX_REPORTS} more`);
  const title = `The configuration has ${sorted.length === 1 ? 'a mistake' : `${sorted.length} mistakes`}:`;
  return new UserError([title, ...lines].join('\n  '), EXIT.usage);
}
