/** What came lately, by hashes alone: what comes once takes a place for a while, and what comes twice is worth more. */
import { coin } from './coin.ts';

/**
 * Whether a hash is among those that came lately; it is from then on.
 * @param hashes sets of two; as many sets as a power of two
 */
export function cameLately(hashes: Int32Array, hash: number): boolean {
  const first = 2 * (hash & (hashes.length / 2 - 1));
  if (hashes[first] === hash || hashes[first + 1] === hash) return true;
  hashes[first + coin()] = hash;
  return false;
}
