/**
 * Field lists that come again and again, each as one object that nobody changes: who has seen the object before knows what is in it, as
 * with Field. One memory per thread, bounded. It is a cache: two objects of one list can exist, and cost nothing else.
 */
import { coin } from './coin.ts';
import { FieldList } from './field.ts';

/** Sets of two lists each: the heads of a busy pod's calls and answers. A power of two. */
const SETS = 128;

const lists: (FieldList | undefined)[] = new Array<FieldList | undefined>(2 * SETS).fill(undefined);

/** The list that has the same fields in the same order, and will never have others. */
export function lastingList(list: FieldList): FieldList {
  if (list.lasts) return list;
  const first = 2 * (hashOf(list) & (SETS - 1));
  for (let place = first; place < first + 2; place++) {
    const known = lists[place];
    if (known !== undefined && isSame(known, list)) return known;
  }
  const lasting = new FieldList(true);
  lasting.take(list);
  lists[first + coin()] = lasting;
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
