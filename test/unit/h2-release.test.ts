/** Streams that their owners are done with become others, of which nothing of the former is known. */
import t from 'tap';
import { H2_ERROR } from '../../proxy/http/h2/frames.ts';
import type { Stream } from '../../proxy/http/h2/stream.ts';
import { bytesOf, clientStart, data, GET, headers, POST, settings, windowUpdate } from '../support/h2.ts';
import {
  ClientWitness,
  listOf,
  receive,
  ServerWitness,
  startClient,
  startServer,
} from '../support/h2-session.ts';

const OK = listOf([[':status', '200']]);
const ANSWER = headers(1, [[':status', '200']], false);

/** What a session made of a stream, but for what is another's by right. */
function stateOf({ id: _id, openedMs: _openedMs, ...state }: Stream<string>): unknown {
  return state;
}

t.test('a request takes the place of the one before', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart());
  receive(session, headers(1, GET, true));
  const fresh = stateOf(owner.streams.get(1)!);
  receive(session, headers(3, POST, false), data(3, 'hello', true));
  const used = owner.streams.get(3)!;
  used.user = 'somebody';
  session.sendHead(used, OK, false);
  session.sendData(used, bytesOf('bye'), 0, 3, true);
  t.notSame(stateOf(used), fresh, 'it has been used');
  session.release(used);
  receive(session, headers(5, GET, true));
  t.equal(owner.streams.get(5), used);
  t.same(stateOf(used), fresh, 'nothing of it is left');
});

t.test('one that is open stays what it is', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart(), headers(1, GET, true));
  session.release(owner.streams.get(1)!);
  receive(session, headers(3, GET, true));
  t.not(owner.streams.get(3), owner.streams.get(1));
});

t.test('content of a stream that was given up is not told of the next', async (t) => {
  /** Has a request sent again, as soon as its first content comes. */
  class Impatient extends ClientWitness {
    next: Stream<string> | undefined;

    override data(...args: Parameters<ClientWitness['data']>): void {
      super.data(...args);
      const [session, stream] = args;
      if (this.next !== undefined) return;
      session.reset(stream, H2_ERROR.cancel);
      session.release(stream);
      this.next = session.open('next', listOf(GET), true);
    }
  }
  const owner = new Impatient();
  const { session } = startClient({}, owner);
  receive(session, settings());
  const first = session.open('first', listOf(GET), true);
  const frame = data(1, 'of the first', true);
  receive(session, ANSWER, frame.subarray(0, 12));
  owner.news();
  t.ok(owner.next, 'it was heard');
  receive(session, frame.subarray(12));
  t.not(owner.next, first);
  t.same(owner.news(), []);
});

t.test('one that was given up while it waited for its turn does not get it as another', async (t) => {
  const { owner, session } = startClient({}, new ClientWitness());
  receive(session, settings());
  const content = new Uint8Array(70_000);
  const [first, second] = [session.open('1', listOf(POST), false), session.open('2', listOf(POST), false)];
  t.equal(session.sendData(first, content, 0, content.length, true), 65_535, 'the window of the connection');
  t.equal(session.sendData(second, content, 0, content.length, true), 0);
  session.reset(second, H2_ERROR.cancel);
  session.release(second);
  const third = session.open('3', listOf(POST), false);
  owner.news();
  receive(session, windowUpdate(0, 1000));
  t.not(third, second);
  t.same(owner.news(), []);
});

t.test('an owner that lets go of every stream hears what one hears that does not', async (t) => {
  /** Answers everything, in the middle of what it is told. */
  class Quick extends ServerWitness {
    readonly lets: boolean;

    constructor(lets: boolean) {
      super();
      this.lets = lets;
    }

    override data(...args: Parameters<ServerWitness['data']>): void {
      super.data(...args);
      const [session, stream, , , , end] = args;
      if (!end) return;
      session.sendHead(stream, OK, true);
      if (this.lets) session.release(stream);
    }
  }
  const [one, other] = [true, false].map((lets) => {
    const { owner, session } = startServer({}, new Quick(lets));
    receive(session, clientStart());
    for (let id = 1; id < 200; id += 2) {
      const content = data(id, `content ${id}`, true);
      receive(session, headers(id, POST, false), content.subarray(0, id % content.length));
      receive(session, content.subarray(id % content.length));
    }
    session.flush();
    return { heard: owner.news(), sent: owner.frames() };
  });
  t.equal(one.heard.length, 200);
  t.same(one, other);
});
