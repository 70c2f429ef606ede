/**
 * What Node's HTTP clients do with the application of `http-application.ts`. Each exercise says how many requests it made and what went
 * wrong, so that tests run them in their own process and, as a program, in a network namespace:
 *
 *   http-exercises.ts IP:PORT    prints the results of all as JSON
 */
import { once } from 'node:events';
import { request } from 'node:http';
import { PassThrough, Readable } from 'node:stream';
import { Client } from 'undici';
import { parseSocketAddress, type SocketAddress } from '../../proxy/core/address.ts';
import { bytesOf } from './engine-peers.ts';
import { type Asked, HTTP_CLIENTS, type HttpClient } from './http-clients.ts';

const SOAK = process.env.FERRULE_SOAK === '1';

/** Requests under way at once. */
const IN_FLIGHT = 100;

/** Requests of the load of each client. */
const LOAD = SOAK ? 40_000 : 1_000;

/** Requests of the pipeline; as many at once as its client may send before the first answer. */
const PIPELINED = SOAK ? 20_000 : 500;
const AHEAD = 50;

/** Requests that answer and ask in turns: how many at once, and how often each. */
const DIALOGUES = 10;
const TURNS = 50;

/** Requests that are given up, of each kind, among as many that are not. */
const LEAVERS = 20;

/** What an exercise made, and what was not as it should be. */
export interface Outcome {
  readonly name: string;
  /** Requests the application got to see. */
  readonly asked: number;
  readonly wrong: readonly string[];
}

/** Something clients do. */
interface Exercise {
  readonly name: string;
  readonly run: (address: SocketAddress) => Promise<{ readonly asked: number; readonly wrong: string[] }>;
}

async function bytesIn(stream: Readable): Promise<Buffer> {
  return Buffer.concat(await stream.toArray());
}

/** Request `n` of a load, and the body of the right answer. */
function loadRequest(n: number): { readonly asked: Asked; readonly right: Buffer } {
  const kind = n % 4;
  if (kind === 0) return { asked: { method: 'GET', path: `/${n}` }, right: Buffer.from(`answer to /${n}`) };
  if (kind === 1) {
    const right = Buffer.from(bytesOf(n, 0, 1_000));
    return { asked: { method: 'POST', path: '/echo', body: right }, right };
  }
  if (kind === 2) {
    const right = Buffer.from(bytesOf(n, 0, 70_000));
    const parts = [right.subarray(0, 1), right.subarray(1, 30_000), right.subarray(30_000)];
    return { asked: { method: 'POST', path: '/echo', body: Readable.from(parts) }, right };
  }
  const framing = n % 8 === 3 ? 'length' : 'chunked';
  const path = `/body?n=20000&framing=${framing}`;
  return { asked: { method: 'GET', path }, right: bytesOf(0, 0, 20_000) };
}

/** Asks requests `0` to `count - 1` of a load. @returns what was wrong */
async function load(client: HttpClient, count: number, inFlight: number): Promise<string[]> {
  const wrong: string[] = [];
  let next = 0;
  const worker = async () => {
    while (next < count) {
      const n = next++;
      const { asked, right } = loadRequest(n);
      const what = `${client.name}: ${asked.method} ${asked.path} (${n})`;
      try {
        const { status, body } = await client.ask(asked);
        if (!(await bytesIn(body)).equals(right)) wrong.push(`${what}: another body, status ${status}`);
      } catch (error) {
        wrong.push(`${what}: ${error}`);
      }
    }
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  return wrong;
}

/** Runs the same with every client. */
async function withAll(
  address: SocketAddress,
  connections: number,
  one: (client: HttpClient) => Promise<{ readonly asked: number; readonly wrong: string[] }>,
) {
  const wrong: string[] = [];
  let asked = 0;
  for (const make of HTTP_CLIENTS) {
    const client = make(address, connections);
    const outcome = await one(client);
    await client.close();
    asked += outcome.asked;
    wrong.push(...outcome.wrong);
  }
  return { asked, wrong };
}

/** Many requests, one of whose connections must not break. */
async function pipeline(address: SocketAddress) {
  const client = new Client(`http://${address}`, { pipelining: AHEAD });
  let connects = 0;
  client.on('connect', () => {
    connects++;
  });
  const wrong: string[] = [];
  const answers = Array.from({ length: PIPELINED }, async (_, n) => {
    const body = n % 5 === 0 ? Buffer.from(bytesOf(n, 0, 300)) : null;
    const right = body ?? Buffer.from(`answer to /p${n}`);
    const path = body === null ? `/p${n}` : '/echo';
    const method = body === null ? 'GET' : 'POST';
    // Not a POST for undici: it would wait with one until everything before has been answered.
    const answer = await client.request({ method, path, body, idempotent: true, reset: false });
    const got = Buffer.from(await answer.body.arrayBuffer());
    if (!got.equals(right)) wrong.push(`${method} ${path}: ${got.subarray(0, 100)}`);
  });
  for (const { reason } of (await Promise.allSettled(answers)).filter((one) => one.status === 'rejected'))
    wrong.push(String(reason));
  await client.close();
  if (connects !== 1) wrong.push(`${connects} connections`);
  return { asked: PIPELINED, wrong };
}

/** The next `length` bytes of a stream; fewer when it ends before. */
async function readExactly(stream: Readable, length: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let missing = length; missing > 0; ) {
    const bytes: Buffer | null = stream.read(Math.min(missing, stream.readableLength));
    if (bytes !== null) {
      parts.push(bytes);
      missing -= bytes.length;
    } else if (stream.readableEnded || stream.destroyed) break;
    else await moreOf(stream);
  }
  return Buffer.concat(parts);
}

/** Waits until there is more to read, or never will be. */
function moreOf(stream: Readable): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      stream.off('readable', done).off('end', done).off('close', done);
      resolve();
    };
    stream.on('readable', done).on('end', done).on('close', done);
  });
}

/** The next piece of the request is sent when the one before has come back. */
async function dialogue(client: HttpClient, n: number): Promise<string[]> {
  const sizes = Array.from({ length: TURNS }, (_, turn) => 1 + turn * 700);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const headers: Record<string, string> = n % 2 === 0 ? { 'content-length': String(total) } : {};
  const sent = new PassThrough();
  sent.write(bytesOf(n, 0, sizes[0]));
  const { body } = await client.ask({ method: 'POST', path: '/echo', headers, body: sent });
  let at = 0;
  for (const [turn, size] of sizes.entries()) {
    if (turn > 0) sent.write(bytesOf(n, at, size));
    const got = await readExactly(body, size);
    if (!got.equals(bytesOf(n, at, size)))
      return [`${client.name}: turn ${turn} of dialogue ${n}: ${got.length} bytes`];
    at += size;
  }
  sent.end();
  const rest = await bytesIn(body);
  return rest.length === 0 ? [] : [`${client.name}: ${rest.length} bytes too many`];
}

async function dialogues(client: HttpClient) {
  const all = Array.from({ length: DIALOGUES }, (_, n) => dialogue(client, n));
  return { asked: DIALOGUES, wrong: (await Promise.all(all)).flat() };
}

/** Asks and gives up where `n` says: while the request goes on, while the response does, or before there is one. */
async function leave(client: HttpClient, n: number): Promise<void> {
  const giveUp = new AbortController();
  const { signal } = giveUp;
  if (n % 3 === 0) {
    const { promise: known, resolve } = Promise.withResolvers<void>();
    const asked = { method: 'GET', path: '/silent', signal, onInformation: () => resolve() } as const;
    const answer = client.ask(asked).then(
      () => new Error('an answer'),
      (error: Error) => error,
    );
    await known;
    giveUp.abort();
    const { name, message } = await answer;
    if (name !== 'AbortError') throw new Error(`${name} instead of an AbortError: ${message}`);
    return;
  }
  const body = new PassThrough();
  const asked: Asked =
    n % 3 === 1
      ? { method: 'POST', path: '/echo', headers: { 'content-length': '1000000' }, body, signal }
      : { method: 'GET', path: `/body?n=50000000&framing=${n % 2 === 0 ? 'length' : 'chunked'}`, signal };
  body.write(bytesOf(n, 0, 100_000));
  const answer = await client.ask(asked);
  await readExactly(answer.body, 1_000);
  const told = new Promise((resolve) => answer.body.once('error', resolve));
  body.on('error', () => body.destroy());
  giveUp.abort();
  await told;
}

async function leavers(client: HttpClient) {
  const wrong: string[] = [];
  const leaving = Array.from({ length: 3 * LEAVERS }, async (_, n) => {
    await leave(client, n).catch((error) => wrong.push(`${client.name}: leaver ${n}: ${error}`));
  });
  // Those that stay use the same connections, before and after.
  wrong.push(...(await load(client, 3 * LEAVERS, LEAVERS)));
  await Promise.all(leaving);
  wrong.push(...(await load(client, 3 * LEAVERS, LEAVERS)));
  return { asked: 9 * LEAVERS, wrong };
}

/** `Expect: 100-continue` by Node's own client, with a server that wants the body and one that does not; undici never says it. */
async function expectations({ ip, port }: SocketAddress) {
  const wrong: string[] = [];
  for (const early of [0, 417, 413]) {
    const body = Buffer.from(bytesOf(early, 0, 100_000));
    const headers = { expect: '100-continue', 'content-length': body.length };
    const path = `/digest?early=${early}`;
    const asking = request({ host: ip, port, method: 'POST', path, headers });
    let continues = 0;
    asking.on('continue', () => {
      continues++;
      asking.end(body);
    });
    asking.flushHeaders();
    const [incoming] = await once(asking, 'response');
    const text = String(await bytesIn(incoming));
    asking.destroy();
    const expected = early === 0 ? `1 200 ${body.length}` : `0 ${early} early`;
    const got = `${continues} ${incoming.statusCode} ${early === 0 ? JSON.parse(text).length : text}`;
    if (got !== expected) wrong.push(`${got} instead of ${expected}`);
  }
  return { asked: 3, wrong };
}

async function interimAndTrailers(client: HttpClient) {
  const wrong: string[] = [];
  const interim: number[] = [];
  const hinted = await client.ask({ method: 'GET', path: '/hints', onInformation: (n) => interim.push(n) });
  const text = String(await bytesIn(hinted.body));
  if (`${interim} ${text}` !== '103,102 answer to /hints')
    wrong.push(`${client.name}: interim responses ${interim}, then ${text}`);
  const answer = await client.ask({ method: 'GET', path: '/trailers', headers: { te: 'trailers' } });
  await bytesIn(answer.body);
  if (answer.trailers()['x-sum'] !== '42')
    wrong.push(`${client.name}: trailers ${JSON.stringify(answer.trailers())}`);
  return { asked: 2, wrong };
}

/** Trailers of a request, which undici cannot send. */
async function requestTrailers({ ip, port }: SocketAddress) {
  const asking = request({ host: ip, port, method: 'POST', path: '/digest', headers: { trailer: 'x-t' } });
  asking.write('body');
  asking.addTrailers({ 'x-t': 'yes' });
  asking.end();
  const [incoming] = await once(asking, 'response');
  const { trailers, length } = JSON.parse(String(await bytesIn(incoming)));
  asking.destroy();
  const right = trailers['x-t'] === 'yes' && length === 4;
  return { asked: 1, wrong: right ? [] : [`${JSON.stringify(trailers)}, ${length} bytes`] };
}

const EXERCISES: readonly Exercise[] = [
  {
    name: `${LOAD} requests, ${IN_FLIGHT} at once`,
    run: (address) =>
      withAll(address, IN_FLIGHT, async (client) => ({
        asked: LOAD,
        wrong: await load(client, LOAD, IN_FLIGHT),
      })),
  },
  { name: `${PIPELINED} requests in a pipeline`, run: pipeline },
  { name: 'both directions at once', run: (address) => withAll(address, DIALOGUES, dialogues) },
  { name: 'requests given up in the middle', run: (address) => withAll(address, IN_FLIGHT, leavers) },
  { name: 'Expect: 100-continue', run: expectations },
  { name: 'interim responses and trailers', run: (address) => withAll(address, 1, interimAndTrailers) },
  { name: 'trailers of a request', run: requestTrailers },
];

/** Runs everything, one exercise after the other. */
export async function exerciseClients(address: SocketAddress): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const { name, run } of EXERCISES) {
    const { asked, wrong } = await run(address);
    // The first few say what is wrong.
    outcomes.push({ name, asked, wrong: wrong.slice(0, 10) });
  }
  return outcomes;
}

if (import.meta.main) {
  const address = parseSocketAddress(process.argv[2]);
  if (address === undefined) throw new Error('usage: http-exercises.ts IP:PORT');
  process.stdout.write(JSON.stringify(await exerciseClients(address)));
}
