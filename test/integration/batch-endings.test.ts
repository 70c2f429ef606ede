/** What is to happen at the end of a batch, and what becomes of it afterwards. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { startEngine, until } from '../support/engine.ts';
import { dial } from '../support/engine-peers.ts';

setFlagsFromString('--expose-gc');
const collect: () => void = runInNewContext('gc');

t.test(
  'ends of a batch come in order, also those that are asked for meanwhile, and nobody is kept',
  async (t) => {
    const test = startEngine(t);
    const address = test.listen();
    const order: number[] = [];
    const owners: WeakRef<object>[] = [];
    // Many at the end of one batch, and never so many again.
    test.onAccepted = () => {
      for (let i = 0; i < 100; i++) {
        const owner = { number: i };
        owners.push(new WeakRef(owner));
        test.engine.atEnd(() => {
          order.push(owner.number);
          if (owner.number === 0) test.engine.atEnd(() => order.push(100));
        });
      }
      t.strictSame(order, [], 'not before the end');
    };
    await dial(t, address);
    await until(() => order.length > 0, 'the end of the batch');
    t.strictSame(
      order,
      Array.from({ length: 101 }, (_, index) => index),
    );
    test.onAccepted = () => test.engine.atEnd(() => order.push(-1));
    await dial(t, address);
    await until(() => order.at(-1) === -1, 'another batch');
    collect();
    t.equal(owners.filter((owner) => owner.deref() !== undefined).length, 0);
  },
);
