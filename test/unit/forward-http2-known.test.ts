/** Requests that are alike: what goes on of their heads, and on which connection. */
import t from 'tap';
import { forwardedFields } from '../../proxy/forward/http2-heads.ts';
import { FieldList } from '../../proxy/http/h2/field.ts';
import { H2_ERROR, SETTING } from '../../proxy/http/h2/frames.ts';
import { H2Head, readRequest } from '../../proxy/http/h2/head.ts';
import { lastingList } from '../../proxy/http/h2/lasting-lists.ts';
import { OwnFields } from '../../proxy/http/h2/own-fields.ts';
import { Rig } from '../support/forward-rig.ts';
import { GET, type PlainField, POST, plainFields, rstStream, settings } from '../support/h2.ts';
import { listOf } from '../support/h2-session.ts';

function headOf(fields: readonly PlainField[], keepMesh: boolean): H2Head {
  const head = Object.assign(new H2Head(listOf(fields)), { keepMesh });
  if (readRequest(head) !== 0) throw new Error(JSON.stringify(fields));
  return head;
}

const ADDED: PlainField = ['l5d-client-id', 'web.test'];
const SAID: PlainField[] = [...GET, ['l5d-orig-proto', 'HTTP/1.1'], ['x', 'y']];

t.test('what goes on is the same for heads that last as for others', async (t) => {
  for (const own of [undefined, new OwnFields([ADDED])]) {
    for (const keepMesh of [false, true]) {
      const wanted: PlainField[] = [...GET, ['x', 'y'], ...(own === undefined ? [] : [ADDED])];
      const into = new FieldList();
      const head = headOf(SAID, keepMesh);
      t.equal(forwardedFields(head, own, into), into);
      t.strictSame(plainFields(into), wanted, `keepMesh ${keepMesh}, own ${own !== undefined}`);
      const lasting = head.lasting();
      const before = plainFields(lasting.fields);
      const list = forwardedFields(lasting, own, into);
      t.strictSame(plainFields(list), wanted);
      t.ok(list.lasts);
      t.equal(forwardedFields(lasting, own, into), list, 'and is the same then');
      t.equal(
        forwardedFields(headOf(SAID, keepMesh).lasting(), own, into),
        list,
        'on other connections, too',
      );
      t.strictSame(plainFields(lasting.fields), before, 'the head has not changed');
    }
  }
});

t.test('what an answer of a known head is to its client, it is for that client alone', async (t) => {
  const answer: PlainField[] = [
    [':status', '200'],
    ['l5d-orig-proto', 'HTTP/1.1'],
    ['x', 'y'],
  ];
  const list = lastingList(listOf(answer));
  const rig = new Rig({ protocol: 'http1', mesh: true, multiplexed: true });
  const client = rig.acceptHttp2();
  for (let n = 0; n < 5; n++) {
    rig.ask(client, GET);
    rig.dial();
    rig.run();
    rig.server.answer(answer);
    rig.run();
  }
  const heard = client.owner.heard.filter((line) => line.includes('response'));
  t.strictSame(new Set(heard.map((line) => line.slice(2))), new Set(['response :status=200 x=y END']));
  t.strictSame(plainFields(list), answer);
});

t.test('a long call that waited twice says twice what is left to it', async (t) => {
  const rig = new Rig({ protocol: 'http2' }, { protocol: 'http2' });
  const client = rig.acceptHttp2();
  const long: PlainField[] = [
    ['x-long', '~'.repeat(5000)],
    ['x-last', 'here'],
  ];
  rig.ask(client, [...POST, ['content-type', 'application/grpc'], ['grpc-timeout', '30S'], ...long]);
  rig.engine.ms += 1_000;
  rig.dial();
  rig.run();
  rig.reply(rig.upstream, rstStream(1, H2_ERROR.refusedStream));
  rig.engine.ms += 1_000;
  rig.dial();
  rig.run();
  const heard = [...rig.servers.values()].flatMap(({ owner }) => owner.heard);
  const said = heard.map((line) => / grpc-timeout=(\S+) x-long=(~+) x-last=(\S+)/.exec(line)?.slice(1));
  t.strictSame(said, [
    ['29000000u', long[0][1], 'here'],
    ['28000000u', long[0][1], 'here'],
  ]);
});

t.test('a call that waited says what is left to it, and the next one what it has', async (t) => {
  const rig = new Rig({ protocol: 'http2' });
  const client = rig.acceptHttp2();
  const call: PlainField[] = [
    ...POST,
    ['content-type', 'application/grpc'],
    ['te', 'trailers'],
    ['grpc-timeout', '30S'],
  ];
  const ask = () => rig.ask(client, call);
  ask();
  rig.dial();
  rig.run();
  for (let n = 0; n < 4; n++) {
    ask();
    rig.run();
  }
  rig.reply(rig.upstream, settings([SETTING.maxConcurrentStreams, 5]));
  ask();
  rig.engine.ms += 5_000;
  rig.dial();
  rig.run();
  ask();
  rig.run();
  const heard = [...rig.servers.values()].flatMap(({ owner }) => owner.heard);
  const timeouts = heard.map((line) => / grpc-timeout=(\S+)/.exec(line)?.[1]);
  t.strictSame(timeouts, [...Array(5).fill('30S'), '25000000u', '30S']);
});

t.test('requests that come together go out on one connection, as far as it has room', async (t) => {
  const rig = new Rig({ protocol: 'http2' });
  const client = rig.acceptHttp2();
  const ask = (requests: number): void => {
    for (let n = 0; n < requests; n++) client.session.open('', listOf(GET), true);
    rig.ask(client, GET);
  };
  rig.ask(client, GET);
  rig.dial();
  rig.run();
  const [first] = rig.upstreams.keys();
  rig.reply(first, settings([SETTING.maxConcurrentStreams, 10]));
  ask(19);
  rig.dial();
  rig.run();
  const [, second] = rig.upstreams.keys();
  rig.reply(second, settings([SETTING.maxConcurrentStreams, 20]));
  rig.run();
  const answer = (): number[] =>
    [...rig.servers.values()].map((server) => {
      const { size } = server.owner.streams;
      server.answer([[':status', '204']]);
      return size;
    });
  t.strictSame(answer(), [10, 11]);
  rig.run();
  const asked: number[][] = [];
  for (const requests of [6, 6, 15, 25, 6]) {
    rig.engine.ms++;
    ask(requests - 1);
    rig.run();
    asked.push(answer());
    rig.run();
  }
  t.strictSame(asked, [
    [0, 6],
    [0, 6],
    [0, 15],
    [5, 20],
    [0, 6],
  ]);
  t.equal(rig.upstreams.size, 2);
  rig.engine.ms++;
  ask(0);
  rig.engine.batch(() => rig.http.upstreamBlocked(rig.upstreams.get(second)!, true));
  ask(14);
  rig.run();
  t.strictSame(
    [...rig.servers.values()].map(({ owner }) => owner.streams.size),
    [6, 10],
    'where nobody reads it goes by room alone',
  );
});
