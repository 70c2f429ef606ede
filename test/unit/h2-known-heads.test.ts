/** Heads that come again and again: what is remembered of them is what would be read or written anew. */
import fc from 'fast-check';
import t from 'tap';
import { EncoderTable } from '../../proxy/http/h2/encoder-table.ts';
import { type FieldList, hashBytes } from '../../proxy/http/h2/field.ts';
import { FLAG, FRAME, SETTING } from '../../proxy/http/h2/frames.ts';
import { H2Head, readRequest } from '../../proxy/http/h2/head.ts';
import { HpackDecoder } from '../../proxy/http/h2/hpack-decoder.ts';
import { HpackEncoder } from '../../proxy/http/h2/hpack-encoder.ts';
import { MOST_KNOWN_BYTES } from '../../proxy/http/h2/known-blocks.ts';
import { lastingList } from '../../proxy/http/h2/lasting-lists.ts';
import {
  block,
  changed,
  clientStart,
  data,
  frame,
  GET,
  headers,
  join,
  type PlainField,
  POST,
  plainFields,
  priorityFields,
  settings,
} from '../support/h2.ts';
import {
  ClientWitness,
  listOf,
  receive,
  ServerWitness,
  startClient,
  startServer,
} from '../support/h2-session.ts';
import { decodeBlock, fromHex } from '../support/hpack.ts';

const RUNS = { seed: 20_261_122, numRuns: process.env.FERRULE_SOAK === '1' ? 20_000 : 1500 };

/** Remembers every list it was told that lasts, and what was in it then. */
class Lasting {
  readonly lists = new Map<FieldList, string>();
  told = 0;

  add(fields: FieldList): void {
    if (!fields.lasts) return;
    this.told++;
    if (!this.lists.has(fields)) this.lists.set(fields, JSON.stringify(plainFields(fields)));
  }

  get changed(): string[] {
    const changed = [...this.lists].filter(([list, text]) => JSON.stringify(plainFields(list)) !== text);
    return changed.map(([, text]) => text);
  }
}

class Server extends ServerWitness {
  readonly lasting = new Lasting();

  override requestHead(...args: Parameters<ServerWitness['requestHead']>): void {
    this.lasting.add(args[2].fields);
    super.requestHead(...args);
  }

  override trailers(...args: Parameters<ServerWitness['trailers']>): void {
    this.lasting.add(args[2]);
    super.trailers(...args);
  }
}

class Client extends ClientWitness {
  readonly lasting = new Lasting();
  status = 0;

  override responseHead(...args: Parameters<ClientWitness['responseHead']>): void {
    this.status = args[2].status;
    this.lasting.add(args[2].fields);
    super.responseHead(...args);
  }

  override trailers(...args: Parameters<ClientWitness['trailers']>): void {
    this.lasting.add(args[2]);
    super.trailers(...args);
  }
}

/** Few fields, so that messages repeat; some that drive others out of tables, and some that no table may have. */
const field: fc.Arbitrary<PlainField> = fc.oneof(
  fc.tuple(fc.constantFrom('x-a', 'x-b', 'te', 'l5d-x'), fc.constantFrom('trailers', 'trailers')),
  fc.tuple(fc.constantFrom('x-a', 'x-b', 'user-agent'), fc.constantFrom('', '1', 'some longer value')),
  fc.tuple(fc.constant('authorization'), fc.constantFrom('secret', 'another')),
  fc.tuple(
    fc.constantFrom('x-a', 'x-b', 'x-c', 'x-d', 'x-e', 'x-f', 'x-g', 'x-large'),
    fc.constantFrom('~'.repeat(1200), '~', '!', '"', '#'),
  ),
);
const some = fc.array(field, { maxLength: 3 });

interface Step {
  readonly method: string;
  readonly path: string;
  readonly host: readonly PlainField[];
  readonly request: readonly PlainField[];
  readonly hasTrailers: boolean;
  readonly status: string;
  readonly response: readonly PlainField[];
  readonly trailers: readonly PlainField[];
  /** Of the table of the server, then of the client; undefined: as it was. */
  readonly tables: readonly (number | undefined)[];
}

const step: fc.Arbitrary<Step> = fc.record({
  method: fc.constantFrom('GET', 'POST'),
  path: fc.constantFrom('/', '/index.html', '/a?b'),
  host: fc.constantFrom<readonly PlainField[]>([], [['host', 'app']]),
  request: some,
  hasTrailers: fc.boolean(),
  status: fc.constantFrom('200', '503'),
  response: some,
  trailers: some,
  tables: fc.tuple(
    fc.option(fc.constantFrom(0, 300, 4096), { nil: undefined, freq: 40 }),
    fc.option(fc.constantFrom(0, 300, 4096), { nil: undefined, freq: 40 }),
  ),
});

/** What is forwarded of fields: nobody here may send `l5d-*`. */
function kept(fields: readonly PlainField[], isTrailer: boolean): string {
  const isKept = ([name]: PlainField) =>
    !name.startsWith('l5d-') && name !== 'host' && !(isTrailer && name === 'te');
  return fields
    .filter(isKept)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');
}

const text = (...parts: readonly string[]) => parts.filter((part) => part !== '').join(' ');

t.test('two sessions hear what the other says, however often it was said', async (t) => {
  let told = 0;
  const check = (steps: readonly Step[]): void => {
    const [client, server] = [new Client(), new Server()];
    const { session: clientSession } = startClient({}, client);
    const { session: serverSession } = startServer({}, server);
    const carry = (): void => {
      for (const [from, to] of [
        [client, serverSession],
        [server, clientSession],
      ] as const) {
        const bytes = join(...from.sent);
        from.sent = [];
        // As they come in the slab, whose place others take then.
        const slab = new Uint8Array(bytes.length + 20).fill(0x82);
        slab.set(bytes, 10);
        to.receive(slab, 10, 10 + bytes.length);
        to.flush();
        slab.fill(0x82);
      }
    };
    receive(serverSession, clientStart());
    receive(clientSession, settings());
    carry();
    // Each kind of message as one object that lasts, as the proxy forwards it.
    const say = (fields: readonly PlainField[], isLasting: boolean): FieldList =>
      isLasting ? lastingList(listOf(fields)) : listOf(fields);
    for (const [n, one] of steps.entries()) {
      const [ofServer, ofClient] = one.tables;
      if (ofServer !== undefined) receive(clientSession, settings([SETTING.headerTableSize, ofServer]));
      if (ofClient !== undefined) receive(serverSession, settings([SETTING.headerTableSize, ofClient]));
      client.news();
      server.news();
      const pseudo: PlainField[] = [
        [':method', one.method],
        [':scheme', 'http'],
        [':authority', 'app'],
        [':path', one.path],
      ];
      const stream = clientSession.open(
        '',
        say([...pseudo, ...one.host, ...one.request], n % 2 === 0),
        !one.hasTrailers,
      );
      if (one.hasTrailers) clientSession.sendTrailers(stream, say(one.trailers, n % 2 === 0));
      clientSession.flush();
      carry();
      const id = stream.id;
      const asked = text(
        `${id} request`,
        kept(pseudo, false),
        kept(one.request, false),
        one.hasTrailers ? '' : 'END',
      );
      const behind = one.hasTrailers ? [`${id} trailers ${kept(one.trailers, true)}`] : [];
      same(server.news(), [asked, ...behind]);
      const served = server.streams.get(id)!;
      serverSession.sendHead(served, say([[':status', one.status], ...one.response], n % 3 > 0), false);
      serverSession.sendTrailers(served, say(one.trailers, n % 3 > 0));
      serverSession.flush();
      carry();
      const answered = text(`${id} response`, `:status=${one.status}`, kept(one.response, false));
      same(client.news(), [answered, `${id} trailers ${kept(one.trailers, true)}`]);
      same(client.status, Number(one.status));
    }
    same(client.lasting.changed, []);
    same(server.lasting.changed, []);
    told += client.lasting.told + server.lasting.told;
  };
  // The same few messages in any order, so that most have come before.
  const steps = fc
    .array(step, { minLength: 1, maxLength: 5 })
    .chain((few) => fc.array(fc.constantFrom(...few), { minLength: 1, maxLength: 60, size: 'max' }));
  fc.assert(fc.property(steps, check), RUNS);
  t.ok(told > 20 * RUNS.numRuns, `${told} heads came that were known`);
});

function same(found: unknown, wanted: unknown): void {
  const [one, other] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (one !== other) throw new Error(`${one}\nis not\n${other}`);
}

t.test('a head is one that lasts from the second time on that its block comes', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart());
  const heads: H2Head[] = [];
  owner.requestHead = (_session, _stream, head) => heads.push(head);
  // All in one place, as in the slab.
  const slab = new Uint8Array(500);
  for (const id of [1, 3, 5, 7]) {
    const bytes = headers(id, GET);
    slab.fill(0x82);
    slab.set(bytes);
    session.receive(slab, 0, bytes.length);
    slab.fill(0x82);
  }
  t.strictSame(
    heads.map(({ isLasting }) => isLasting),
    [false, true, true, true],
  );
  t.equal(heads[2], heads[1], 'and the same then');
  receive(session, headers(9, [...GET, ['x', 'y']]), headers(11, GET));
  t.notOk(heads[4].isLasting);
  t.equal(heads[5], heads[1], 'others do not matter');
  const other = new Server();
  const { session: another } = startServer({}, other);
  receive(another, clientStart(), headers(1, GET), headers(3, GET));
  const [list] = other.lasting.lists.keys();
  t.equal(list, heads[1].fields, 'on other connections it has the same fields');
});

t.test('what comes often stays known, however often the table changes and whatever comes once', async (t) => {
  /** Answers at once. */
  class Quick extends Server {
    override requestHead(...args: Parameters<Server['requestHead']>): void {
      super.requestHead(...args);
      args[0].sendHead(args[1], listOf([[':status', '200']]), true);
    }
  }
  const server = new Quick();
  const { session } = startServer({}, server);
  receive(session, clientStart());
  const often = ['/', '/a', '/b', '/c'].map((path) => changed(GET, ':path', path));
  let id = 1;
  // What came often before has to make room.
  for (let n = 0; n < 10; n++, id += 4) {
    const before = changed(GET, ':path', `/before/${n}`);
    receive(session, headers(id, before), headers(id + 2, before));
  }
  server.lasting.lists.clear();
  for (let round = 0; round < 50; round++) {
    for (let n = 0; n < 30; n++) {
      const others = changed(GET, ':path', `/${round}/${n}`);
      receive(session, headers(id, others), headers(id + 2, often[n % often.length]));
      id += 4;
    }
    // One more entry, twice with the same bytes: that changes it both times.
    const adds = join(block(GET), fromHex('40 01 78 01 79'));
    receive(session, headers(id, adds), headers(id + 2, adds));
    id += 4;
  }
  t.equal(server.lasting.lists.size, often.length);
  t.ok(server.lasting.told > 50 * (30 - 2 * often.length), `${server.lasting.told} times`);
});

t.test('what is malformed is not remembered, and is not taken for what it was elsewhere', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart());
  const wrong: PlainField[] = [...GET, ['connection', 'close']];
  for (const id of [1, 3, 5]) receive(session, headers(id, wrong));
  t.equal(owner.news().filter((line) => /problem 400 .*connection-specific/.test(line)).length, 3);
  for (const id of [7, 9, 11]) receive(session, headers(id, GET));
  receive(session, headers(13, GET, false), headers(13, GET));
  t.match(
    owner.news().at(-1),
    /13 reset PROTOCOL_ERROR ours: .*pseudo-header field in trailers|13 reset PROTOCOL_ERROR ours/,
  );
  const client = startClient();
  receive(client.session, settings());
  for (const id of [1, 3, 5]) {
    client.session.open('', listOf(GET), true);
    receive(client.session, headers(id, [[':status', '200']], false), headers(id, [['x-sum', '1']]));
  }
  client.owner.news();
  client.session.open('', listOf(GET), true);
  receive(client.session, headers(7, [['x-sum', '1']]));
  t.match(client.owner.news(), [/7 reset PROTOCOL_ERROR ours: .*pseudo-header/]);
});

t.test(
  'a block that is made again is the same until the table changes, and only of what is in it',
  async (t) => {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    const lists = [
      lastingList(
        listOf([
          ['x-app', 'one'],
          ['authorization', 'secret'],
        ]),
      ),
      lastingList(listOf([['x-app', 'two']])),
    ];
    const into = new Uint8Array(4096);
    const sent = (list: FieldList): string => {
      const end = encoder.encode(list, into, 7);
      const block = into.slice(7, end);
      const { fields } = decodeBlock(decoder, block);
      same(
        fields.map(([name, value]) => [name, value]),
        plainFields(list),
      );
      return Buffer.from(block).toString('hex');
    };
    const first = sent(lists[0]);
    const [second, third, fourth] = [sent(lists[0]), sent(lists[0]), sent(lists[0])];
    t.ok(third.length < second.length && second.length <= first.length, `${first}, ${second}, ${third}`);
    t.equal(fourth, third);
    t.ok(third.startsWith('be1f'), 'an index; what no table may have is written as it is');
    for (let n = 0; n < 3; n++) sent(lists[1]);
    t.equal(sent(lists[0]), third.replace('be', 'bf'), 'another index since there is a newer entry');
    encoder.peerTableSize(0);
    t.ok(sent(lists[0]).startsWith('20'), 'the size is told');
    t.ok(sent(lists[0]).startsWith('00'));
  },
);

t.test('indexes of what has left the table are wrong, whatever came before', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart());
  const pseudo = '82 86 84 41 03 617070';
  receive(session, headers(1, fromHex(`${pseudo} 40 01 78 01 79`)));
  for (const id of [3, 5, 7]) receive(session, headers(id, fromHex('82 86 84 bf be')));
  receive(session, headers(9, fromHex('20 82 86 84 01 03 617070')), headers(11, fromHex('82 86 84 bf be')));
  t.match(owner.news().at(-1), /ended COMPRESSION_ERROR ours: .*no table entry/);
});

t.test('another block with the same hash is another', async (t) => {
  const pseudo = '82 86 84 01 03 617070';
  const blocks = new Map<number, Uint8Array>();
  let alike: Uint8Array[] = [];
  // Among so many of 2^32 there are some.
  for (let n = 0; n < 400_000 && alike.length === 0; n++) {
    const one = fromHex(`${pseudo} 00 01 78 08 ${Buffer.from(String(n).padStart(8, '0')).toString('hex')}`);
    const hash = hashBytes(one, 0, one.length, 0);
    const other = blocks.get(hash);
    if (other !== undefined) alike = [other, one];
    blocks.set(hash, one);
  }
  const { owner, session } = startServer();
  receive(session, clientStart());
  const ids = [1, 3, 5, 7, 9, 11];
  // Values in the end of each block.
  for (const id of ids) receive(session, headers(id, alike[id < 7 ? 0 : 1]));
  const values = alike.map((one) => Buffer.from(one.subarray(-8)).toString('latin1').trim());
  t.strictSame(
    owner.news().map((line) => line.split(' x=')[1]?.trim()),
    ids.map((id) => `${values[id < 7 ? 0 : 1]} END`),
  );
});

t.test('a head that lasts says what it said', async (t) => {
  const lists: PlainField[][] = [
    [...POST, ['content-length', '5'], ['te', 'trailers'], ['expect', '100-continue'], ['host', 'web.test']],
    [[':method', 'CONNECT'], ...GET.slice(1), [':protocol', 'websocket']],
  ];
  for (const fields of lists) {
    const head = Object.assign(new H2Head(listOf(fields)), { keepMesh: true, extendedConnect: true });
    t.equal(readRequest(head), 0);
    const lasting = head.lasting();
    t.ok(lasting.isLasting && !head.isLasting);
    t.same(
      { ...lasting, fields: plainFields(lasting.fields) },
      { ...head, fields: plainFields(head.fields) },
    );
    t.equal(lastingList(lasting.fields), lasting.fields);
  }
});

t.test('interim responses and trailers are known, too', async (t) => {
  const client = new Client();
  const { session } = startClient({}, client);
  receive(session, settings());
  for (const id of [1, 3, 5, 7]) {
    session.open('', listOf(GET), true);
    receive(session, headers(id, [[':status', '103']], false));
    receive(session, headers(id, [[':status', '200']], false), headers(id, [['x-sum', '1']]));
  }
  const known = [...client.lasting.lists.keys()].map((list) => plainFields(list).join());
  t.strictSame(known.toSorted(), [':status,103', ':status,200', 'x-sum,1']);
});

t.test('what a frame says beside its block counts for heads that are known', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart());
  const fields: PlainField[] = [...POST, ['content-length', '5']];
  for (const id of [1, 3, 5]) receive(session, headers(id, fields, false), data(id, 'hello', true));
  owner.news();
  receive(session, headers(7, fields, true));
  t.match(owner.news(), [/7 problem 400 .*content/]);
  const dependent = join(priorityFields(9), block(fields));
  receive(session, frame(FRAME.headers, FLAG.endHeaders | FLAG.priority, 9, dependent));
  t.match(owner.news(), [/9 problem 400 .*itself/]);
});

t.test('trailers that are known are no head', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart());
  const sum: PlainField[] = [['x-sum', '1']];
  for (const id of [1, 3, 5]) receive(session, headers(id, POST, false), headers(id, sum));
  owner.news();
  receive(session, headers(7, sum));
  t.match(owner.news(), [/7 problem 400 a pseudo-header field is missing/]);
});

t.test('blocks of some length are remembered, longer ones are not', async (t) => {
  for (const more of [0, 1]) {
    const server = new Server();
    const { session } = startServer({}, server);
    receive(session, clientStart());
    const rest = MOST_KNOWN_BYTES - block([...GET, ['x', '']]).length;
    for (const id of [1, 3, 5]) receive(session, headers(id, [...GET, ['x', 'y'.repeat(rest + more)]]));
    t.equal(server.lasting.told, more === 0 ? 2 : 0);
  }
});

t.test('a block that was made is not made again, also when others come between', async (t) => {
  let looked = 0;
  const { indexOf } = EncoderTable.prototype;
  EncoderTable.prototype.indexOf = function (field) {
    looked++;
    return indexOf.call(this, field);
  };
  t.teardown(() => {
    EncoderTable.prototype.indexOf = indexOf;
  });
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  const into = new Uint8Array(4096);
  const lists = Array.from({ length: 12 }, (_, n) => lastingList(listOf([['x-app', String(n)]])));
  for (let round = 0; round < 10; round++) {
    looked = 0;
    for (const list of lists) {
      const { fields } = decodeBlock(decoder, into.slice(0, encoder.encode(list, into, 0)));
      same(
        fields.map(([name, value]) => [name, value]),
        plainFields(list),
      );
    }
  }
  t.equal(looked, 0, 'it knows them all');
  const long = lastingList(listOf(Array.from({ length: 140 }, () => ['x-app', '1'] as const)));
  for (let n = 0; n < 3; n++) encoder.encode(long, into, 0);
  t.equal(looked, 3 * 140, 'but not long ones');
});
