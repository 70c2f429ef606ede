/** Attacks on HTTP/1 through a whole proxy: clients that say exactly what they are told, and a server that records every byte. */
import { connect } from 'node:net';
import type { Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { serve } from './engine-peers.ts';
import { makeIdentities } from './identities.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy, type TestProxy } from './proxy.ts';

/** Longer than anything here takes, and shorter than the proxy's own deadlines. */
const DEADLINE_MS = 8_000;

/** What a client has seen when its connection is over. */
export interface Talk {
  readonly text: string;
  /** Of the responses in `text`, in order. */
  readonly statuses: readonly number[];
  /** The proxy ended the connection; otherwise it was still open when time was up. */
  readonly closed: boolean;
}

/** Options of `talk`. */
export interface TalkOptions {
  /** The client ends its side behind the last piece. */
  readonly end?: boolean;
  /** Given up after this, in ms. */
  readonly patienceMs?: number;
  /** Sent first; the rest waits until something has come back. */
  readonly opening?: string | undefined;
}

/** Says `text` (Latin-1) and listens until the connection is over. */
export function talk(address: SocketAddress, text: string, options: TalkOptions = {}): Promise<Talk> {
  const { end = false, patienceMs = DEADLINE_MS, opening } = options;
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    const socket = connect({ host: address.ip, port: address.port, allowHalfOpen: true });
    const say = () => {
      if (end) socket.end(text, 'latin1');
      else socket.write(text, 'latin1');
    };
    const finish = (closed: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      const said = Buffer.concat(parts).toString('latin1');
      const statuses = [...said.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status));
      resolve({ text: said, statuses, closed });
    };
    const timer = setTimeout(finish, patienceMs, false);
    socket.on('data', (bytes) => {
      if (parts.push(bytes) === 1 && opening !== undefined) say();
    });
    for (const event of ['end', 'error', 'close']) socket.on(event, () => finish(true));
    if (opening === undefined) say();
    else socket.write(opening, 'latin1');
  });
}

/** Whether detection takes it for HTTP/1: DESIGN says that every other complete line is opaque. */
export function opensAsHttp(text: string): boolean {
  const line = text.slice(0, text.indexOf('\n')).replace(/\r$/, '');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it is about
  return /^[A-Za-z_-]{1,32}( [^\x00-\x08\x0b\x0c\x0e-\x1f]*)? HTTP\/1\.[01]$/.test(line);
}

/** A server that answers nothing but the openings, and keeps everything else it is sent. */
export class Recorder {
  /** Per connection, without the openings. */
  readonly seen: string[] = [];
  address!: SocketAddress;

  static async start(t: Test): Promise<Recorder> {
    const recorder = new Recorder();
    const server = await serve(t, ({ socket }) => {
      const index = recorder.seen.push('') - 1;
      let text = '';
      socket.on('data', (bytes) => {
        text += bytes.toString('latin1');
        for (let end = OPENING_SEEN.exec(text); end !== null; end = OPENING_SEEN.exec(text)) {
          text = text.slice(0, end.index) + text.slice(end.index + end[0].length);
          socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
        }
        recorder.seen[index] = text;
      });
      socket.on('end', () => socket.end());
    });
    recorder.address = server.address;
    return recorder;
  }

  /** Everything but openings. */
  get text(): string {
    return this.seen.join('');
  }
}

/** A harmless first request of a connection. */
export const OPENING = 'GET /opening HTTP/1.1\r\nHost: shop\r\n\r\n';

const OPENING_SEEN = /GET \/opening HTTP\/1\.1\r\n(?:[^\r\n]+\r\n)*\r\n/;

/** A proxy with an outbound and an inbound listener in front of the same server, both in plaintext. */
export async function startBoth(
  t: Test,
  server: SocketAddress,
): Promise<{ proxy: TestProxy; outbound: SocketAddress; inbound: SocketAddress }> {
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('shop'),
    inbound: { ports: [{ listen: '127.0.0.1:0', port: server.port, policy: 'all-unauthenticated' }] },
    mesh: { 'shop.yaml': serviceYaml('shop', [{ address: server }]) },
  });
  const [outbound, inbound] = proxy.listeners;
  return { proxy, outbound, inbound };
}

/** Ways to a server that an attack can take; on the third, requests are streams between two proxies with mutual TLS. */
export const WAYS = ['outbound', 'inbound', 'multiplexed'] as const;

/** Starts one of the ways. The server must answer `OPENING`. @returns the client's proxy, and where clients connect */
export async function startWay(
  t: Test,
  server: SocketAddress,
  way: (typeof WAYS)[number],
): Promise<{ proxy: TestProxy; address: SocketAddress }> {
  if (way === 'multiplexed') return startMultiplexed(t, server);
  const { proxy, [way]: address } = await startBoth(t, server);
  return { proxy, address };
}

/** Two proxies with mutual TLS: `proxy` is the client's, `inner` the server's. */
interface Sidecars {
  readonly proxy: TestProxy;
  readonly inner: TestProxy;
  /** Where clients connect. */
  readonly address: SocketAddress;
}

/** Starts two sidecars that know nothing of each other yet: the first response says that requests may be streams. */
export async function startSidecars(t: Test, server: SocketAddress): Promise<Sidecars> {
  const identities = await makeIdentities(t);
  const [web, shop] = [await identities.make('web'), await identities.make('shop')];
  const inner = await startTestProxy(t, {
    identity: shop.settings,
    inbound: { ports: [{ listen: '127.0.0.1:0', port: server.port, policy: 'all-authenticated' }] },
  });
  const meshed = serviceYaml('shop', [{ address: inner.listeners[0], identity: shop.spiffe }]);
  const proxy = await startTestProxy(t, {
    identity: web.settings,
    outbound: listenerFor('shop'),
    mesh: { 'shop.yaml': meshed },
  });
  return { proxy, inner, address: proxy.listeners[0] };
}

/** The third way alone. */
export async function startMultiplexed(t: Test, server: SocketAddress): Promise<Sidecars> {
  const { proxy, inner, address } = await startSidecars(t, server);
  await eventually('requests are streams', async () => {
    await talk(address, OPENING, { end: true });
    const [latest] = await proxy.explanations();
    return latest?.attempts.at(-1)?.protocol === 'h2' || undefined;
  });
  return { proxy, inner, address };
}

/** Runs `one` for all, a few at once. */
export async function forAll<T>(all: readonly T[], one: (item: T) => Promise<void>): Promise<void> {
  const left = [...all];
  const run = async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await one(item);
  };
  await Promise.all(Array.from({ length: 12 }, run));
}
