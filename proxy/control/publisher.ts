/**
 * Gives one worker the targets it looked up, as immutable, versioned, full snapshots. At most one is on its way per target;
 * while it is, newer ones replace each other and only the newest is sent.
 */
import type { ToWorker } from '../model/messages.ts';
import type { TargetKey, TargetSnapshot } from '../model/target.ts';
import type { Discovery } from './discovery.ts';
import type { Unwatch } from './source.ts';

interface Publication {
  unwatch: Unwatch;
  version: number;
  /** A snapshot was sent and not acknowledged. */
  underWay: boolean;
  /** The newest one, while another is under way. */
  next: TargetSnapshot | undefined;
}

/** The targets of one worker. */
export class Publisher {
  private readonly discovery: Discovery;
  private readonly send: (message: ToWorker) => void;
  private readonly publications = new Map<TargetKey, Publication>();

  constructor(discovery: Discovery, send: (message: ToWorker) => void) {
    this.discovery = discovery;
    this.send = send;
  }

  /** The worker wants a target: it gets each new snapshot until it releases it. */
  lookUp(key: TargetKey): void {
    this.release(key);
    const publication: Publication = {
      unwatch: () => undefined,
      version: 0,
      underWay: false,
      next: undefined,
    };
    this.publications.set(key, publication);
    publication.unwatch = this.discovery.watch(key, (snapshot) => this.publish(key, publication, snapshot));
  }

  /** The worker has forgotten a target. */
  release(key: TargetKey): void {
    this.publications.get(key)?.unwatch();
    this.publications.delete(key);
  }

  /** The worker has taken a snapshot over. */
  applied(key: TargetKey, version: number): void {
    const publication = this.publications.get(key);
    // An answer to what a former look-up of the same target was sent.
    if (publication === undefined || publication.version !== version) return;
    publication.underWay = false;
    const next = publication.next;
    publication.next = undefined;
    if (next !== undefined) this.publish(key, publication, next);
  }

  /** The worker has ended. */
  close(): void {
    for (const publication of this.publications.values()) publication.unwatch();
    this.publications.clear();
  }

  private publish(key: TargetKey, publication: Publication, snapshot: TargetSnapshot): void {
    if (publication.underWay) {
      publication.next = snapshot;
      return;
    }
    publication.underWay = true;
    publication.version++;
    this.send({ type: 'target', key, version: publication.version, snapshot });
  }
}
