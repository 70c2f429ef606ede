/**
 * `l5d-proxy-unprocessed`, by which an inbound proxy says of an answer of its own that its application has seen nothing of the request: the
 * client's proxy asks another endpoint then, as after REFUSED_STREAM (RFC 9113 section 8.7), which has no words for the reason. Only an
 * authenticated peer is told, and believed.
 */
import { equalsFolded, LOWER, latin1 } from '../bytes.ts';
import { FIELD } from '../names.ts';
import type { FieldList } from './field.ts';
import { fieldOf } from './interning.ts';

const NAME = latin1('l5d-proxy-unprocessed');
const REASON = latin1('l5d-proxy-error');
const { mesh: MESH } = FIELD;

/** The field that says so. */
export const UNPROCESSED = fieldOf('l5d-proxy-unprocessed', '1');

/** Why the endpoint has not seen the request that this is an answer to; undefined: it may have. */
export function unprocessedReason(list: FieldList): string | undefined {
  if (fieldValue(list, NAME) === undefined) return undefined;
  return Buffer.from(fieldValue(list, REASON) ?? '').toString('latin1');
}

function fieldValue({ items, count }: FieldList, wanted: Uint8Array): Uint8Array | undefined {
  for (let i = 0; i < count; i++) {
    const { id, name, value } = items[i];
    if (id === MESH && name.length === wanted.length && equalsFolded(name, 0, name.length, wanted, LOWER))
      return value;
  }
  return undefined;
}
