/** Field lists as plain values, and between HTTP/1 and HTTP/2 as the proxy translates them. */

import { FieldList } from '../../proxy/http/h2/field.ts';
import { FieldOptions, requestFields, responseFields } from '../../proxy/http/h2/from-http1.ts';
import { fieldOf } from '../../proxy/http/h2/interning.ts';
import {
  fieldsRoom,
  LineOptions,
  writeRequestFields,
  writeResponseFields,
} from '../../proxy/http/h2/to-http1.ts';
import { FRAMING, Head } from '../../proxy/http/head.ts';
import { readRequestHead } from '../../proxy/http/request.ts';
import { readResponseHead } from '../../proxy/http/response.ts';
import { bytesOf, textOf } from './http-codec.ts';

/** A field as Latin-1 text. */
export type Pair = readonly [name: string, value: string];

/** Makes a list. */
export function listOf(pairs: readonly Pair[]): FieldList {
  const list = new FieldList();
  for (const [name, value] of pairs) list.push(fieldOf(name, value));
  return list;
}

/** What a list has. */
export function pairsOf({ items, count }: FieldList): Pair[] {
  return items.slice(0, count).map(({ name, value }) => [textOf(name), textOf(value)]);
}

/** A list as lines, which read better in tests. */
export function linesOf(list: FieldList): string[] {
  return pairsOf(list).map(([name, value]) => `${name}: ${value}`);
}

/** Space before and behind, in which nothing may be written. */
const MARGIN = 64;

/** Writes a list as a head, and checks that it stays where it was told to write. */
export function headOf(list: FieldList, given: Partial<LineOptions> = {}, isResponse = false): string {
  const options = Object.assign(new LineOptions(), given);
  const room = fieldsRoom(list, options);
  const into = new Uint8Array(MARGIN + room + MARGIN).fill(0x21);
  const to = (isResponse ? writeResponseFields : writeRequestFields)(list, options, into, MARGIN);
  const outside = [...into.subarray(0, MARGIN), ...into.subarray(Math.max(to, MARGIN + room))];
  if (to > MARGIN + room || outside.some((byte) => byte !== 0x21)) throw new Error('written outside');
  return textOf(into, MARGIN, to);
}

/** The fields of a head of HTTP/1, which must be whole and right. */
export function fieldsOfHead(text: string, given: Partial<FieldOptions> = {}, method?: number): FieldList {
  const list = new FieldList();
  const head = new Head();
  const bytes = bytesOf(text);
  const options = Object.assign(new FieldOptions(), given);
  const end =
    method === undefined
      ? readRequestHead(head, bytes, 0, bytes.length)
      : readResponseHead(head, bytes, 0, bytes.length, method);
  if (end !== bytes.length) throw new Error(`${end} instead of ${bytes.length}: ${JSON.stringify(text)}`);
  (method === undefined ? requestFields : responseFields)(head, options, list);
  return list;
}

/** How a head announced its body, for writing it again. */
export function framingOf(list: FieldList): Pick<LineOptions, 'framing' | 'contentLength'> {
  const length = pairsOf(list).find(([name]) => name === 'content-length');
  return length === undefined
    ? { framing: FRAMING.none, contentLength: 0 }
    : { framing: FRAMING.length, contentLength: Number(length[1]) };
}
