/** What of a client's heads goes on to endpoints: without what proxies say to each other, and with what this one adds. */
import { FieldList } from '../http/h2/field.ts';
import type { H2Head } from '../http/h2/head.ts';
import { lastingList } from '../http/h2/lasting-lists.ts';
import { dropMeshFields } from '../http/h2/original-protocol.ts';
import type { OwnFields } from '../http/h2/own-fields.ts';

/** Lists that are remembered: as many as a connection has of heads that last (http/h2/known-blocks.ts). A power of two. */
const PLACES = 8;

/** Where lists are made that are to last. */
const scratch = new FieldList();

/** See above, for one connection. */
export class Http2Heads {
  private readonly own: OwnFields | undefined;
  /** Lists that last, and what goes on of them; of others too that have the same place, one after the other. */
  private readonly lists: FieldList[] = [];
  private readonly forwardedLists: FieldList[] = [];

  /** @param own added to each head */
  constructor(own: OwnFields | undefined) {
    this.own = own;
  }

  /**
   * The fields that go on.
   * @param into where they are put unless they last
   */
  forwarded(head: H2Head, into: FieldList): FieldList {
    const { fields } = head;
    if (!head.isLasting) {
      this.make(head, into);
      return into;
    }
    if (this.own === undefined && !head.keepMesh) return fields;
    const place = fields.number & (PLACES - 1);
    if (this.lists[place] !== fields) {
      this.make(head, scratch);
      this.lists[place] = fields;
      this.forwardedLists[place] = lastingList(scratch);
    }
    return this.forwardedLists[place];
  }

  private make({ fields, keepMesh }: H2Head, into: FieldList): void {
    into.take(fields);
    if (keepMesh) dropMeshFields(into);
    if (this.own !== undefined) for (const field of this.own.fields) into.push(field);
  }
}
