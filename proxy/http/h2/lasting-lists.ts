/**
 * Field lists that come again and again, each as one object that nobody changes: who has seen the object before knows what is in it, as
 * with Field. One memory per thread, bounded. It is a cache: two objects of one list can exist, and cost nothing else.
 */
import type { FieldList } from './field.ts';

/** Lists that are remembered: the heads of a busy pod's calls and answers. A power of two. */
const PLACES = 256;

const lists: (FieldList | undefined)[] = new Array<FieldList | undefined>(PLACES).fill(undefined);
let lastNumber = 0;

/** The list that has the same fields in the same order, and will never have others. */
export function lastingList(list: FieldList): FieldList {
  if (list.number !== 0) return list;
  const place = hashOf(list) & (PLACES - 1);
  const known = lists[place];
  if (known !== undefined && isSame(known, list)) return known;
  const lasting = list.copy(++lastNumber);
  lists[place] = lasting;
  return lasting;
}

function hashOf({ items, count }: FieldList): number {
  let hash = count;
  for (let i = 0; i < count; i++) hash = Math.imul(hash ^ items[i].hash, 0x9e3779b1);
  return hash ^ (hash >>> 16);
}

function isSame(one: FieldList, other: FieldList): boolean {
  if (one.count !== other.count) return false;
  for (let i = 0; i < one.count; i++) if (one.items[i] !== other.items[i]) return false;
  return true;
}
