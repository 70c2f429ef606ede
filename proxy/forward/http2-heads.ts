/** What of a client's heads goes on to endpoints: without what proxies say to each other, and with what this one adds. */
import { FieldList } from '../http/h2/field.ts';
import type { H2Head } from '../http/h2/head.ts';
import { lastingList } from '../http/h2/lasting-lists.ts';
import { dropMeshFields } from '../http/h2/original-protocol.ts';
import type { OwnFields } from '../http/h2/own-fields.ts';

/** Where lists are made that are to last. */
const scratch = new FieldList();

/**
 * The fields of a head that go on.
 * @param own added to each head of the connection
 * @param into where they are put unless they last
 */
export function forwardedFields(head: H2Head, own: OwnFields | undefined, into: FieldList): FieldList {
  const { fields } = head;
  if (!fields.lasts) {
    make(head, own, into);
    return into;
  }
  if (own === undefined && !head.keepMesh) return fields;
  if (head.forwarded === undefined) {
    make(head, own, scratch);
    head.forwarded = lastingList(scratch);
  }
  return head.forwarded;
}

function make({ fields, keepMesh }: H2Head, own: OwnFields | undefined, into: FieldList): void {
  into.take(fields);
  if (keepMesh) dropMeshFields(into);
  if (own !== undefined) for (const field of own.fields) into.push(field);
}
