/** Ranges of bytes, as caches compare and keep them, and content is copied. */

/** Longer ones are copied by set(), which costs as much as so many bytes in a loop. */
const SHORT = 24;

/** Whether `own` is the same bytes as `bytes[from, to)`. */
export function isSame(own: Uint8Array, bytes: Uint8Array, from: number, to: number): boolean {
  if (own.length !== to - from) return false;
  for (let i = 0; i < own.length; i++) if (own[i] !== bytes[from + i]) return false;
  return true;
}

/** `bytes[from, to)` in memory of its own, as a plain Uint8Array, whatever `bytes` are. */
export function ownCopy(bytes: Uint8Array, from: number, to: number): Uint8Array {
  const own = new Uint8Array(to - from);
  if (own.length > SHORT) own.set(bytes.subarray(from, to));
  else for (let i = 0; i < own.length; i++) own[i] = bytes[from + i];
  return own;
}

/** What bytes came in last, nearly always the slab, and a view of that. */
let viewed: Uint8Array = new Uint8Array(0);
let view = new DataView(viewed.buffer);

/** A view of `bytes`, which costs as much as copying some hundred of them and is kept until others are asked for. */
export function viewOf(bytes: Uint8Array): DataView {
  if (bytes !== viewed) {
    viewed = bytes;
    view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  return view;
}

/** Copies `[from, to)` of one view to another at `at`: short ranges, for which set() is too much ado. */
export function copyWords(source: DataView, from: number, to: number, target: DataView, at: number): void {
  const offset = at - from;
  let i = from;
  for (const last = to - 4; i <= last; i += 4) target.setInt32(i + offset, source.getInt32(i));
  for (; i < to; i++) target.setInt8(i + offset, source.getInt8(i));
}
