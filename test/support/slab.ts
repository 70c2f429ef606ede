/** A metrics slab of its own for a test, with the definitions main would have been told. */
import { MetricsSlab, type SeriesDefinition, SLAB_BYTES, seriesKey } from '../../proxy/metrics/slab.ts';
import type { Labels } from '../../proxy/model/target.ts';

/** A slab and a way to read a series by name and labels; NaN when there is none. */
export function testSlab(): { slab: MetricsSlab; read: (family: string, labels: Labels) => number } {
  const definitions = new Map<string, SeriesDefinition>();
  const slab = new MetricsSlab(
    new SharedArrayBuffer(SLAB_BYTES),
    (definition) => definitions.set(seriesKey(definition.family, definition.labels), definition),
    () => undefined,
  );
  const read = (family: string, labels: Labels): number => {
    const definition = definitions.get(seriesKey(family, labels));
    return definition === undefined ? Number.NaN : slab.values[definition.slot];
  };
  return { slab, read };
}
