import t from 'tap';
import { FAMILIES } from '../../proxy/metrics/families.ts';
import {
  ENGINE_SLOTS,
  FIRST_SERIES_SLOT,
  MAX_SERIES_KEY,
  MetricsSlab,
  SERIES_IDLE_MS,
  type SeriesDefinition,
  SLAB_BYTES,
  SLAB_SLOTS,
  type Slot,
  seriesKey,
} from '../../proxy/metrics/slab.ts';

/** A slab with room for `room` series, and what it told main. */
function createSlab(room: number) {
  const defined: SeriesDefinition[] = [];
  const undefined_: Slot[] = [];
  const slab = new MetricsSlab(
    new SharedArrayBuffer((FIRST_SERIES_SLOT + room) * 8),
    (definition) => defined.push(definition),
    (slot) => undefined_.push(slot),
  );
  return { slab, defined, dropped: undefined_ };
}

t.test('a series is resolved once, whatever the order of its labels', async (t) => {
  const { slab, defined } = createSlab(4);
  defined.length = 0;
  const slot = slab.counter('tcp_open_total', { direction: 'inbound', peer: 'src' });
  t.equal(slab.counter('tcp_open_total', { peer: 'src', direction: 'inbound' }), slot);
  t.not(slab.counter('tcp_open_total', { peer: 'dst', direction: 'inbound' }), slot);
  t.equal(defined.length, 2, 'main is told once per series');
  t.same(defined[0], { slot, family: 'tcp_open_total', labels: { direction: 'inbound', peer: 'src' } });
  slab.add(slot, 2.5);
  slab.add(slot, 1);
  t.equal(slab.values[slot], 3.5);
});

t.test('label values cannot imitate another series', async (t) => {
  t.not(seriesKey('f', { a: '1,b:2' }), seriesKey('f', { a: '1', b: '2' }));
  t.not(seriesKey('f', { a: '1","b","2' }), seriesKey('f', { a: '1', b: '2' }));
  t.not(seriesKey('f', { a: 'b' }), seriesKey('f', { b: 'a' }));
});

t.test('past the cap a family has one overflow series', async (t) => {
  const { slab, defined } = createSlab(1);
  const only = slab.counter('tcp_open_total', { target_addr: 'first' });
  defined.length = 0;
  const second = slab.counter('tcp_open_total', { target_addr: 'second' });
  t.equal(slab.counter('tcp_open_total', { target_addr: 'third' }), second);
  t.not(second, only);
  t.not(slab.gauge('tcp_open_connections', { target_addr: 'second' }), second, 'each family its own');
  t.equal(slab.counter('tcp_open_total', { target_addr: 'first' }), only, 'a known series keeps its slot');
  t.same(
    defined.map(({ family, labels }) => [family, labels]),
    [
      ['tcp_open_total', { overflow: 'true' }],
      ['tcp_open_connections', { overflow: 'true' }],
    ],
  );
  const index = FAMILIES.findIndex(({ name }) => name === 'ferrule_metrics_series_overflow_total');
  t.equal(slab.values[ENGINE_SLOTS + index], 3, 'each diverted request is counted');
  slab.release(second);
  slab.release(second);
  t.equal(slab.sweep(0) + slab.sweep(SERIES_IDLE_MS * 2), 0, 'overflow series are never dropped');
});

t.test('labels the format cannot carry go to the overflow series', async (t) => {
  const { slab } = createSlab(8);
  const overflow = slab.counter('tcp_open_total', { server_id: 'x'.repeat(MAX_SERIES_KEY) });
  t.ok(overflow < FIRST_SERIES_SLOT);
  t.equal(slab.counter('tcp_open_total', { 'dst-pod': 'a' }), overflow, 'a name with a dash');
  t.equal(slab.counter('tcp_open_total', { dst_pod: '\ud800' }), overflow, 'half a surrogate pair');
  t.ok(slab.counter('tcp_open_total', { dst_pod: '"\\\n\u{1f600}' }) >= FIRST_SERIES_SLOT);
});

t.test(
  'a series is dropped after ten idle minutes without a holder, and its slot waits for main',
  async (t) => {
    const { slab, defined, dropped } = createSlab(1);
    const labels = { target_addr: 'a' };
    const slot = slab.counter('tcp_open_total', labels);
    slab.retain(slot);
    slab.add(slot, 7);
    slab.release(slot);
    t.equal(slab.sweep(0) + slab.sweep(SERIES_IDLE_MS), 0, 'held once more');
    slab.release(slot);
    t.equal(slab.sweep(SERIES_IDLE_MS), 0, 'idle from here');
    slab.add(slot, 1);
    t.equal(slab.sweep(2 * SERIES_IDLE_MS - 1), 0, 'it changed: idle from here');
    t.equal(slab.sweep(3 * SERIES_IDLE_MS - 2), 0);
    t.equal(slab.sweep(3 * SERIES_IDLE_MS - 1), 1);
    t.same(dropped, [slot]);
    t.equal(slab.values[slot], 8, 'untouched while main may read it');
    t.ok(slab.counter('tcp_open_total', labels) < FIRST_SERIES_SLOT, 'not reused while main may read it');
    slab.forgotten(slot);
    t.equal(slab.values[slot], 0);
    defined.length = 0;
    t.equal(slab.counter('tcp_read_bytes_total', labels), slot);
    t.equal(defined.length, 1);
  },
);

t.test('a series that is asked for again in time stays', async (t) => {
  const { slab } = createSlab(1);
  const labels = { target_addr: 'a' };
  const slot = slab.counter('tcp_open_total', labels);
  slab.release(slot);
  slab.sweep(0);
  t.equal(slab.counter('tcp_open_total', labels), slot);
  slab.release(slot);
  t.equal(slab.sweep(SERIES_IDLE_MS), 0, 'its time starts anew');
  t.equal(slab.sweep(2 * SERIES_IDLE_MS), 1);
});

t.test('a gauge that is not back at zero is never dropped', async (t) => {
  const { slab } = createSlab(1);
  const slot = slab.gauge('tcp_open_connections', {});
  slab.add(slot, 1);
  slab.release(slot);
  t.equal(slab.sweep(0) + slab.sweep(10 * SERIES_IDLE_MS), 0);
  slab.add(slot, -1);
  t.equal(slab.sweep(10 * SERIES_IDLE_MS) + slab.sweep(11 * SERIES_IDLE_MS), 1);
});

t.test('misuse is an error', async (t) => {
  const { slab } = createSlab(2);
  const slot = slab.counter('tcp_open_total', {});
  slab.release(slot);
  t.throws(() => slab.release(slot), /not held/);
  t.throws(() => slab.retain(slot), /not held/);
  t.throws(() => slab.forgotten(slot), /was not waiting/);
  t.throws(() => slab.counter('nothing' as 'tcp_open_total', {}), /no metric family|cannot/);
  const nothing = () => {};
  t.throws(() => new MetricsSlab(new SharedArrayBuffer(8), nothing, nothing), /needs/);
});

t.test('the standard size is a whole number of slots and has room for series', async (t) => {
  t.equal(SLAB_BYTES, SLAB_SLOTS * 8);
  t.ok(FIRST_SERIES_SLOT < SLAB_SLOTS / 100);
  t.equal(new Set(FAMILIES.map(({ name }) => name)).size, FAMILIES.length);
});
