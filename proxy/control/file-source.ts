/**
 * Targets from a directory of Kubernetes YAML (or one file), followed as it changes. A file with mistakes
 * keeps what it last said when it had none; a file that never was right keeps the whole source from being
 * synced, because what it lacks could be the identity of an endpoint that another file names.
 */
import { type FSWatcher, watch } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { UserError } from '../core/errors.ts';
import { log } from '../core/log.ts';
import type { TargetKey, TargetSnapshot } from '../model/target.ts';
import { type CompiledTargets, compile } from '../resources/compile.ts';
import { type LoadedFile, loadResources } from '../resources/load.ts';
import type { Resource } from '../resources/types.ts';
import { isResourceFile, readScanned, type Scan, type Signature, sameFiles, scanFiles } from './file-scan.ts';
import type { DiscoverySource, SourceHealth, Unwatch } from './source.ts';

/**
 * How long files must lie still before they are read: an editor or rsync writes a file within a few
 * milliseconds.
 */
const SETTLE_MS = 100;
/** Files that never lie still must not keep the others from being read. */
const SETTLE_LIMIT_MS = 2_000;
/** The fallback where no event comes: network file systems, links whose targets change, watches used up. */
const POLL_MS = 5_000;
/** While the path is missing nothing can be watched; one look at a missing path costs nothing. */
const RETRY_MS = 1_000;
/** Mistakes named in the health: enough to work through, short enough for one log line. */
const MAX_MISTAKES = 20;
/** Warnings logged for one change: each names something that has no effect, so only a flood is cut. */
const MAX_WARNINGS = 500;

/** Settings of a file source. */
export interface FileSourceOptions {
  /** Where a service named without a namespace is looked for; `default` unless said. */
  readonly namespace?: string;
  /**
   * Milliseconds between looks without an event, at least 10; 5000 (1000 while the path is missing) unless
   * said.
   */
  readonly pollMs?: number;
}

/** What is known of one file. */
interface FileState {
  readonly signature: Signature;
  readonly resources: readonly Resource[];
  /** Why its present text is not used; empty when it is. */
  readonly mistakes: readonly string[];
  readonly warnings: readonly string[];
  readonly unused: ReadonlyMap<string, number>;
  /** False until it was right once. */
  readonly everGood: boolean;
}

interface Watch {
  readonly target: TargetKey;
  readonly onAnswer: (snapshot: TargetSnapshot) => void;
  last: TargetSnapshot | undefined;
}

/** The `file` source. */
export class FileSource implements DiscoverySource {
  readonly name: string;
  private readonly path: string;
  private readonly options: FileSourceOptions;
  private files: ReadonlyMap<string, FileState> = new Map();
  private compiled: CompiledTargets = compile([]);
  private current: SourceHealth = { synced: false, lastGoodMs: undefined, error: undefined };
  private readonly watches = new Set<Watch>();
  private readonly healthListeners = new Set<() => void>();
  private warned: ReadonlySet<string> = new Set();
  private watcher: { readonly directory: string; readonly events: FSWatcher } | undefined;
  private nextLook: NodeJS.Timeout | undefined;
  private looking = false;
  private changedMeanwhile = false;
  /** Files the present look could not read in peace. */
  private unsettled: string[] = [];
  private closed = false;

  /** `path` is a directory or a file; it need not exist yet. */
  constructor(path: string, options: FileSourceOptions = {}) {
    this.name = `file:${path}`;
    this.path = path;
    this.options = options;
  }

  get health(): SourceHealth {
    return this.current;
  }

  /** Everything in force, for hosts files. */
  get resources(): readonly Resource[] {
    return [...this.files.values()].flatMap((file) => file.resources);
  }

  watch(target: TargetKey, onAnswer: (snapshot: TargetSnapshot) => void): Unwatch {
    const entry: Watch = { target, onAnswer, last: undefined };
    this.watches.add(entry);
    this.answer(entry);
    return () => void this.watches.delete(entry);
  }

  onHealth(listener: () => void): void {
    this.healthListeners.add(listener);
  }

  start(): Promise<void> {
    return this.refresh();
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.nextLook);
    this.unfollow();
    this.watches.clear();
    this.healthListeners.clear();
  }

  /**
   * Looks, one look at a time (a change seen meanwhile causes another), and sees to the next. Never rejects.
   */
  private async refresh(): Promise<void> {
    if (this.closed) return;
    if (this.looking) {
      this.changedMeanwhile = true;
      return;
    }
    clearTimeout(this.nextLook);
    this.looking = true;
    this.changedMeanwhile = false;
    let pause = this.options.pollMs ?? POLL_MS;
    try {
      await this.look();
    } catch (error) {
      pause = this.options.pollMs ?? RETRY_MS;
      this.unfollow();
      this.setHealth({ ...this.current, error: error instanceof Error ? error.message : String(error) });
      if (!(error instanceof UserError))
        log.error(`discovery: ${(error as Error).stack}`, { source: this.name });
    }
    this.looking = false;
    if (this.closed) return;
    this.nextLook = setTimeout(() => void this.refresh(), this.changedMeanwhile ? SETTLE_MS : pause);
    this.nextLook.unref();
  }

  private async look(): Promise<void> {
    this.unsettled = [];
    let first = await scanFiles(this.path);
    if (this.closed) return;
    // What changed before events began to be heard is seen by a second look.
    if (this.follow(first)) first = await scanFiles(this.path);
    const known = new Map([...this.files].map(([file, state]) => [file, state.signature]));
    const settled = sameFiles(first.files, known) ? first.files : await this.settle(first, known);
    if (this.closed) return;
    const files = await this.read(settled);
    if (this.closed) return;
    this.apply(files);
  }

  /** Waits until two looks see the same; after the limit, files that still change keep the state they had. */
  private async settle(
    first: Scan,
    known: ReadonlyMap<string, Signature>,
  ): Promise<ReadonlyMap<string, Signature>> {
    const deadline = Date.now() + SETTLE_LIMIT_MS;
    // At start nothing was missed yet: files that have long lain still are read at once.
    if (!this.current.synced && Math.abs(Date.now() - first.newestMs) > SETTLE_MS) return first.files;
    let before = first.files;
    for (;;) {
      await delay(SETTLE_MS);
      const { files } = await scanFiles(this.path);
      if (sameFiles(before, files) || this.closed) return files;
      if (Date.now() >= deadline) return this.withoutUnsettled(before, files, known);
      before = files;
    }
  }

  private withoutUnsettled(
    before: ReadonlyMap<string, Signature>,
    files: ReadonlyMap<string, Signature>,
    known: ReadonlyMap<string, Signature>,
  ): ReadonlyMap<string, Signature> {
    const settled = new Map<string, Signature>();
    for (const file of new Set([...before.keys(), ...files.keys()])) {
      const quiet = files.get(file) === before.get(file);
      if (!quiet) this.unsettled.push(file);
      const signature = quiet ? files.get(file) : known.get(file);
      if (signature !== undefined) settled.set(file, signature);
    }
    return settled;
  }

  private async read(files: ReadonlyMap<string, Signature>): Promise<ReadonlyMap<string, FileState>> {
    const states = new Map<string, FileState>();
    for (const [file, signature] of files) {
      const old = this.files.get(file);
      if (old?.signature === signature) states.set(file, old);
      else {
        const state = await this.readFile(file, signature, old);
        if (state !== undefined) states.set(file, state);
      }
    }
    return states;
  }

  /** The new state of a file; the old one when it changed under our eyes. */
  private async readFile(
    file: string,
    signature: Signature,
    old: FileState | undefined,
  ): Promise<FileState | undefined> {
    const read = await readScanned(file, signature);
    if (read.kind === 'changed') {
      this.unsettled.push(file);
      return old;
    }
    let loaded: LoadedFile;
    if (read.kind === 'refused') {
      loaded = { resources: [], mistakes: [`${file} ${read.reason}`], warnings: [], unused: new Map() };
    } else {
      loaded = await loadResources(read.text, file);
      if (read.text === '' && (old?.resources.length ?? 0) > 0) {
        // A full disk leaves such files. Nobody removes a service that way by intention.
        loaded = { ...loaded, mistakes: [`${file} is empty; remove the file to remove its resources`] };
      }
    }
    if (loaded.mistakes.length === 0) return { ...loaded, signature, everGood: true };
    const kept = { resources: old?.resources ?? [], everGood: old?.everGood ?? false };
    // No signature is the same as none: it is read again at the next look.
    const again = read.kind === 'refused' && read.passing;
    return { ...loaded, ...kept, signature: again ? '' : signature };
  }

  private apply(files: ReadonlyMap<string, FileState>): void {
    const before = this.files;
    this.files = files;
    const states = [...files.values()];
    if (!sameResources(before, files)) {
      const namespace = this.options.namespace;
      this.compiled = compile(this.resources, {
        previous: this.compiled,
        ...(namespace === undefined ? {} : { namespace }),
      });
    }
    if (this.unsettled.length > 0) this.changedMeanwhile = true;
    const unsettled = this.unsettled.map((file) => `${file} keeps changing; waiting for it to lie still`);
    const mistakes = [...states.flatMap((state) => state.mistakes), ...unsettled];
    this.warn([...states.flatMap((state) => state.warnings), ...this.compiled.warnings, ...unusedOf(states)]);
    const complete = states.every((state) => state.everGood) && unsettled.length === 0;
    this.setHealth({
      synced: this.current.synced || complete,
      lastGoodMs: mistakes.length === 0 ? Date.now() : this.current.lastGoodMs,
      error: mistakes.length === 0 ? undefined : shorten(mistakes, MAX_MISTAKES).join('; '),
    });
    for (const entry of [...this.watches]) this.answer(entry);
  }

  private answer(entry: Watch): void {
    if (!this.current.synced || !this.watches.has(entry)) return;
    const snapshot = this.compiled.lookup(entry.target);
    if (snapshot === entry.last || isDeepStrictEqual(snapshot, entry.last)) return;
    entry.last = snapshot;
    entry.onAnswer(snapshot);
  }

  private setHealth(health: SourceHealth): void {
    const before = this.current;
    this.current = health;
    if (before.synced === health.synced && before.error === health.error) return;
    if (health.error === undefined) {
      if (before.error !== undefined) log.info('discovery: recovered', { source: this.name });
    } else if (health.error !== before.error) {
      log.error(`discovery: ${health.error}`, { source: this.name, synced: health.synced });
    }
    for (const listener of [...this.healthListeners]) listener();
  }

  /** Logs the warnings that are new. */
  private warn(warnings: readonly string[]): void {
    const fresh = warnings.filter((warning) => !this.warned.has(warning));
    for (const text of shorten(fresh, MAX_WARNINGS)) {
      log.warn(`discovery: ${text}`, { source: this.name });
    }
    this.warned = new Set(warnings);
  }

  /**
   * Watches the directory for events, again when another one took its place; true when this began something.
   */
  private follow({ directory }: Scan): boolean {
    if (this.watcher?.directory === directory.id) return false;
    this.unfollow();
    try {
      const events = watch(directory.path, { persistent: false }, (_event, name) => {
        // The directory itself went away: its place may be taken by another with the same number.
        if (name === basename(directory.path)) this.unfollow();
        else if (name !== null && !this.concerns(name, directory.path)) return;
        void this.refresh();
      });
      events.on('error', (error) => this.pollOnly(error));
      this.watcher = { directory: directory.id, events };
      return true;
    } catch (error) {
      this.pollOnly(error as Error);
      return false;
    }
  }

  /** True when an event about `name` is about our files: also `..data`, the link Kubernetes swaps. */
  private concerns(name: string, directory: string): boolean {
    if (name.startsWith('..')) return true;
    return directory === this.path ? isResourceFile(name) : name === basename(this.path);
  }

  private unfollow(): void {
    this.watcher?.events.close();
    this.watcher = undefined;
  }

  private pollOnly(error: Error): void {
    this.unfollow();
    const detail = { source: this.name, error: error.message };
    log.debug('discovery: no change events, looking every few seconds', detail);
  }
}

function sameResources(a: ReadonlyMap<string, FileState>, b: ReadonlyMap<string, FileState>): boolean {
  if (a.size !== b.size) return false;
  for (const [file, state] of a) if (b.get(file)?.resources !== state.resources) return false;
  return true;
}

/** One line that counts the objects of kinds without effect. */
function unusedOf(states: readonly FileState[]): string[] {
  const counts = new Map<string, number>();
  for (const state of states) {
    for (const [kind, count] of state.unused) counts.set(kind, (counts.get(kind) ?? 0) + count);
  }
  if (counts.size === 0) return [];
  const list = [...counts]
    .map(([kind, count]) => `${count} ${kind}`)
    .sort()
    .join(', ');
  return [`not used by this version: ${list}`];
}

function shorten(texts: readonly string[], limit: number): string[] {
  if (texts.length <= limit) return [...texts];
  return [...texts.slice(0, limit), `and ${texts.length - limit} more`];
}
