/**
 * Requests that others have read in two ways, through the whole proxy: what must be refused is answered and closed, and nothing
 * of it reaches the server; on the first request of a connection and on a later one, on every way.
 */
import t from 'tap';
import { type CorpusCase, REQUEST_CORPUS } from '../support/http-corpus.ts';
import { forAll, OPENING, opensAsHttp, Recorder, startWay, talk, WAYS } from '../support/http-corpus-rig.ts';

const REFUSED = REQUEST_CORPUS.filter(({ expected }) => 'refused' in expected);
const partOf = ({ expected }: CorpusCase) => ('refused' in expected ? expected.part : undefined);
const statusOf = ({ expected }: CorpusCase) => ('refused' in expected ? expected.refused : 0);

for (const way of WAYS) {
  t.test(`${way}: refused heads reach nobody`, async (t) => {
    const recorder = await Recorder.start(t);
    const { proxy, address } = await startWay(t, recorder.address, way);
    const inHead = REFUSED.filter((one) => partOf(one) === 'head');
    const first = inHead.filter(({ bytes }) => opensAsHttp(bytes));
    t.ok(first.length > 100, `${first.length} of ${inHead.length} begin like HTTP`);
    await forAll(first, async (one) => {
      const { statuses, closed } = await talk(address, one.bytes);
      t.strictSame({ statuses, closed }, { statuses: [statusOf(one)], closed: true }, one.name);
    });
    // It may have been dialled: on a busy machine a client is silent for 50 ms.
    t.equal(recorder.text, '', 'the server got nothing');
    await forAll(inHead, async (one) => {
      const { statuses, closed } = await talk(address, one.bytes, { opening: OPENING });
      t.strictSame(
        { statuses, closed },
        { statuses: [200, statusOf(one)], closed: true },
        `${one.name}, 2nd`,
      );
    });
    t.ok(recorder.seen.length > 0);
    t.equal(recorder.text, '', 'nothing but the openings');
    await proxy.until('tcp_open_connections', { peer: 'src' }, (open) => open === 0);
    t.equal(await proxy.sum('ferrule_worker_restarts_total'), 0);
  });

  t.test(`${way}: refused bodies never become whole`, async (t) => {
    const recorder = await Recorder.start(t);
    const { address } = await startWay(t, recorder.address, way);
    const inBody = REFUSED.filter((one) => partOf(one) === 'body');
    t.ok(inBody.length > 20);
    for (const opening of [undefined, OPENING]) {
      await forAll(inBody, async (one) => {
        const { statuses, closed } = await talk(address, one.bytes, { opening });
        const expected = opening === undefined ? [statusOf(one)] : [200, statusOf(one)];
        t.strictSame({ statuses, closed }, { statuses: expected, closed: true }, one.name);
      });
    }
    t.notMatch(recorder.text, /smuggled/);
    for (const text of recorder.seen) {
      t.ok(text.split(' HTTP/1.1\r\n').length <= 2, 'one head at the most');
      t.notMatch(text, /\r\n0\r\n/, 'and no end of its body');
    }
  });
}
