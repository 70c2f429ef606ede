/** Objects that are used again instead of being left to the garbage collector. */
export class Spares<T extends object> {
  private readonly most: number;
  private readonly objects: T[] = emptyList();

  /** @param most that are kept; what is given beyond goes the usual way */
  constructor(most: number) {
    this.most = most;
  }

  /** The one that was given last: it is in the processor's cache. Undefined when there is none. */
  take(): T | undefined {
    return this.objects.pop();
  }

  /** Nobody else knows the object any more. */
  give(object: T): void {
    if (this.objects.length < this.most) this.objects.push(object);
  }
}

/**
 * An array for objects, without any. V8 takes a new `[]` for one of small integers. The first object makes it another kind of array, and code
 * that was compiled for the kind that others had become is thrown away: with each new connection everybody's requests would be slow for half
 * a second.
 */
export function emptyList<T>(): T[] {
  const list: (T | undefined)[] = [undefined];
  list.pop();
  return list as T[];
}
