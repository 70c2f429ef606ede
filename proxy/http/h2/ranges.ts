/** Ranges of bytes, as caches compare and keep them. */

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
