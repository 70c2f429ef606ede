/**
 * `l5d-orig-proto`, by which sidecars tell each other that a message on HTTP/2 is one of HTTP/1 (linkerd2-proxy,
 * proxy/http/src/orig_proto.rs): `HTTP/1.1` or `HTTP/1.0`, on requests with `; absolute-form` where the target was one. The response to
 * such a request has it too. Only an authenticated peer is believed.
 */
import { equalsFolded, LOWER, latin1 } from '../bytes.ts';
import { FIELD } from '../names.ts';
import type { Field, FieldList } from './field.ts';
import { fieldOf } from './interning.ts';

const NAME = latin1('l5d-orig-proto');
const { mesh: MESH } = FIELD;

/** By HTTP/1.minor. */
const PLAIN = [fieldOf('l5d-orig-proto', 'HTTP/1.0'), fieldOf('l5d-orig-proto', 'HTTP/1.1')];
const ABSOLUTE = [
  fieldOf('l5d-orig-proto', 'HTTP/1.0; absolute-form'),
  fieldOf('l5d-orig-proto', 'HTTP/1.1; absolute-form'),
];

/** `HTTP/1.`, and the offset of what follows. */
const VERSION = latin1('http/1.');
const MINOR_AT = VERSION.length;

/** The field that says so. */
export function originalProtocol(minor: 0 | 1, absolute: boolean): Field {
  return absolute ? ABSOLUTE[minor] : PLAIN[minor];
}

/** Whether it is that field, whatever it says. */
export function isOriginalProtocol({ id, name }: Field): boolean {
  return id === MESH && equalsFolded(name, 0, name.length, NAME, LOWER);
}

/**
 * The minor version of HTTP/1 that a message had before it was sent on HTTP/2; -1 when it had none. The form of its target is not told:
 * towards servers every target is written in origin form, as it is for HTTP/1 all the way.
 */
export function originalMinor({ items, count }: FieldList): 0 | 1 | -1 {
  for (let i = 0; i < count; i++) {
    if (!isOriginalProtocol(items[i])) continue;
    const { value } = items[i];
    if (value.length <= MINOR_AT || !equalsFolded(value, 0, MINOR_AT, VERSION, LOWER)) return -1;
    const minor = value[MINOR_AT] - 0x30;
    return minor === 0 || minor === 1 ? minor : -1;
  }
  return -1;
}

/** Takes the field out of a response: its client has not asked for what it says. */
export function dropOriginalProtocol(list: FieldList): void {
  const { items } = list;
  let kept = 0;
  for (let i = 0; i < list.count; i++) {
    const field = items[i];
    if (isOriginalProtocol(field)) list.size -= field.size;
    else items[kept++] = field;
  }
  list.count = kept;
}

/** Takes all `l5d-*` fields out of a request: once it is known what it was, none of them is for whoever comes next. */
export function dropMeshFields(list: FieldList): void {
  const { items, count } = list;
  let kept = 0;
  for (let i = 0; i < count; i++) {
    const field = items[i];
    if (field.id === MESH) list.size -= field.size;
    else items[kept++] = field;
  }
  list.count = kept;
}
