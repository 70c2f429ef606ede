/**
 * Our identity from three files, followed as they change. They are replaced one after the other, so that a set is used only
 * when it lay still and fits together; until then, and when it never does, the identity we have stays.
 */
import { readFile } from 'node:fs/promises';
import { log } from '../core/log.ts';
import type { OwnIdentity } from '../model/messages.ts';
import {
  type IdentityTexts,
  judgeChain,
  type OwnCertificate,
  readOwnCertificate,
} from './own-certificate.ts';
import { timeProblem } from './validity.ts';

/**
 * How often the files are read, in ms. Reading is what sees every way of replacing them (renames, links, mounts); three small
 * files a second cost nothing, and nobody rotates faster.
 */
const LOOK_MS = 1_000;

/** Files that changed must be the same this much later, in ms, before they are used. */
const SETTLE_MS = 100;

/**
 * How long files may not fit together before that is a failure, in ms: whoever replaces them one after the other by hand or over
 * a network needs a second or two, and meanwhile the identity we have is in use.
 */
const PATIENCE_MS = 3_000;

/** A certificate that ends this soon is worth a warning at every start and reload, in ms. */
const SOON_MS = 3_600_000;

/**
 * From this long before the end of what we have, the files are judged again at every look, in ms: another way to a trust anchor
 * may have become valid since they were read.
 */
const LAST_MS = 60_000;

/** Where the files are. */
export interface IdentityPaths {
  readonly certificate: string;
  readonly key: string;
  readonly trustAnchors: string;
}

/** Follows the files and hands out identities. */
export class IdentityFiles {
  /** Changes that were taken over, the first reading included. */
  reloads = 0;
  /** When the last of them was, in ms since 1970; undefined before the first. */
  reloadedAtMs: number | undefined;
  /** Changes that could not be used, by us or by a worker. */
  failures = 0;
  private readonly paths: IdentityPaths;
  private readonly onChange: (identity: OwnIdentity) => void;
  private readonly lookMs: number;
  private seen: IdentityTexts | undefined;
  /** The newest good one. */
  private own: OwnCertificate | undefined;
  /** That it has ended was told. */
  private ended = false;
  /** What the last failure was about. */
  private refused: IdentityTexts | undefined;
  private problem: string | undefined;
  /** Since when the files have been unusable, by the monotonic clock in ms; undefined while they are good. */
  private unusableSinceMs: number | undefined;
  /** The newest version a worker could not use. */
  private refusedVersion = 0;
  private timer: NodeJS.Timeout | undefined;
  private closed = false;

  /** @param onChange called with every new identity, before `start` resolves with the first one */
  constructor(paths: IdentityPaths, onChange: (identity: OwnIdentity) => void, lookMs = LOOK_MS) {
    this.paths = paths;
    this.onChange = onChange;
    this.lookMs = lookMs;
  }

  /** The newest good one, also when it has ended. */
  get current(): OwnIdentity | undefined {
    return this.own?.identity;
  }

  /** Reads the files, and follows them from then on. Never rejects: files that are not good yet may be later. */
  async start(): Promise<void> {
    await this.look();
  }

  /** Stops following. */
  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
  }

  /** Why we cannot prove who we are; undefined when we can. */
  unready(nowMs: number = Date.now()): string | undefined {
    if (this.own === undefined) return `identity: ${this.problem ?? 'not read yet'}`;
    const problem = endProblem(this.own, nowMs);
    return problem === undefined ? undefined : `identity: ${problem}`;
  }

  /** A worker cannot use the identity of that version, which counts as one failure however many workers there are. */
  refusedByWorker(version: number): void {
    if (version <= this.refusedVersion) return;
    this.refusedVersion = version;
    this.failures++;
  }

  private async look(): Promise<void> {
    try {
      const texts = await this.read();
      if (sameTexts(texts, this.seen)) this.recovered();
      else await this.changed(texts);
    } catch (error) {
      this.refused = undefined;
      this.fail((error as Error).message);
    }
    if (this.closed) return;
    this.watchEnd(Date.now());
    this.timer = setTimeout(() => void this.look(), this.lookMs);
    this.timer.unref();
  }

  private async changed(first: IdentityTexts): Promise<void> {
    let texts = first;
    // The first files we see are at rest, or the next look finds them changed.
    if (this.seen !== undefined) {
      await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
      texts = await this.read();
      if (this.closed || !sameTexts(texts, first)) return;
    }
    let own: OwnCertificate;
    try {
      own = readOwnCertificate(texts, this.reloads + 1, Date.now());
    } catch (error) {
      // Judged again at every look, since a certificate becomes valid with time, but told of once: the text has the time in it.
      if (!sameTexts(texts, this.refused) && this.fail((error as Error).message)) this.refused = texts;
      return;
    }
    this.seen = texts;
    this.recovered();
    this.reloads++;
    this.reloadedAtMs = Date.now();
    this.own = own;
    this.ended = false;
    this.tell(own);
    this.onChange(own.identity);
  }

  /** Files that nobody touches end all the same. */
  private watchEnd(nowMs: number): void {
    if (this.own === undefined) return;
    if (nowMs >= this.own.end.notAfterMs - LAST_MS) {
      const end = judgeChain(this.own.chain, this.own.anchors, nowMs);
      if (typeof end !== 'string') this.own = { ...this.own, end };
    }
    const problem = endProblem(this.own, nowMs);
    if (problem !== undefined && !this.ended) log.error(`identity: ${problem}`, { ...this.paths });
    this.ended = problem !== undefined;
  }

  private recovered(): void {
    if (this.problem !== undefined && this.current !== undefined)
      log.info('identity: the files are good again');
    this.problem = undefined;
    this.refused = undefined;
    this.unusableSinceMs = undefined;
  }

  private async read(): Promise<IdentityTexts> {
    const { certificate: certificatePath, key: keyPath, trustAnchors: anchorsPath } = this.paths;
    const found = await Promise.allSettled([certificatePath, keyPath, anchorsPath].map(textOf));
    // All of them, in one order: which is missed first changes from look to look, and would be told of each time.
    const problems = found.flatMap((result) => (result.status === 'rejected' ? [result.reason.message] : []));
    if (problems.length > 0) throw new Error(problems.join('; '));
    const [certificate, key, trustAnchors] = found.map((result) =>
      result.status === 'fulfilled' ? result.value : '',
    );
    return { certificate, key, trustAnchors };
  }

  /**
   * Says once per problem what it is, not at every look, and not before it has lasted where there is an identity to go on with.
   * @returns whether the problem is one by now
   */
  private fail(problem: string): boolean {
    if (this.closed) return false;
    const nowMs = performance.now();
    this.unusableSinceMs ??= nowMs;
    if (this.current !== undefined && nowMs - this.unusableSinceMs < PATIENCE_MS) return false;
    if (problem === this.problem) return true;
    this.problem = problem;
    this.failures++;
    const kept = this.current === undefined ? 'there is none yet' : 'the one we have stays in use';
    log.error(`identity: ${problem}; ${kept}`, { ...this.paths });
    return true;
  }

  private tell({
    identity: { identity, serverName, notBeforeMs, notAfterMs, version },
    end,
  }: OwnCertificate) {
    const nowMs = Date.now();
    const fields = { identity, serverName, expires: new Date(notAfterMs).toISOString(), version };
    log.info('identity loaded', fields);
    if (notBeforeMs > nowMs) {
      log.warn('clocks differ: our certificate is not valid yet by our clock', {
        notBefore: new Date(notBeforeMs).toISOString(),
        now: new Date(nowMs).toISOString(),
      });
    }
    if (end.notAfterMs - nowMs < SOON_MS) {
      const expires = new Date(end.notAfterMs).toISOString();
      log.warn(`${end.what} expires within the hour`, { ...fields, expires });
    }
  }
}

function endProblem({ end }: OwnCertificate, nowMs: number): string | undefined {
  return timeProblem(end, end.what, nowMs);
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const why =
      code === 'ENOENT'
        ? 'is not there (`ferrule identity issue` makes such files)'
        : `cannot be read (${code}); it must be a file that this user may read`;
    throw new Error(`${path} ${why}`, { cause: error });
  }
}

function sameTexts(one: IdentityTexts, other: IdentityTexts | undefined): boolean {
  return (
    one.certificate === other?.certificate && one.key === other.key && one.trustAnchors === other.trustAnchors
  );
}
