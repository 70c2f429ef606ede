/** What code puts on the heap. */
import { type HeapProfiler, Session } from 'node:inspector';

/** Bytes put on the heap by `work`, collected or not; of many small objects nearly right, of a few only whether there are some. */
export function allocated(work: () => void): number {
  const session = new Session();
  session.connect();
  const options = { samplingInterval: 512, includeObjectsCollectedByMinorGC: true };
  session.post('HeapProfiler.startSampling', options as HeapProfiler.StartSamplingParameterType);
  work();
  let bytes = 0;
  const add = (node: HeapProfiler.SamplingHeapProfileNode): void => {
    bytes += node.selfSize;
    for (const child of node.children) add(child);
  };
  session.post('HeapProfiler.stopSampling', (_error, { profile }) => add(profile.head));
  session.disconnect();
  return bytes;
}

/**
 * The same of `work` once it is compiled, which a busy machine may put off: until then numbers are put on the heap.
 * @param enough bytes that end the waiting
 */
export function allocatedWhenCompiled(work: () => void, enough: number): number {
  let bytes = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < 50 && bytes >= enough; attempt++) {
    work();
    bytes = allocated(work);
  }
  return bytes;
}
