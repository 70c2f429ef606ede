import t from 'tap';
import { nearest } from '../../proxy/core/nearest.ts';

t.test('finds the intended name behind one slip', async (t) => {
  const names = ['listen', 'listeners', 'originalDst', 'unknown'];
  t.equal(nearest('lisen', names), 'listen', 'a letter left out');
  t.equal(nearest('lsiten', names), 'listen', 'two letters swapped');
  t.equal(nearest('listenerss', names), 'listeners', 'a letter too many');
  t.equal(nearest('ORIGINALDST', names), 'originalDst', 'case');
  t.equal(nearest('original_dst', names), 'originalDst', 'another spelling');
});

t.test('prefers silence to a wrong guess', async (t) => {
  t.equal(nearest('port', ['listen', 'path']), undefined);
  t.equal(nearest('', ['listen']), undefined);
  t.equal(nearest('x'.repeat(1_000_000), ['listen']), undefined, 'and does not spend time on an absurd word');
});
