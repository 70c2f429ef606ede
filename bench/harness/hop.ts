/**
 * Proves that two proxies speak mutual TLS 1.3 with each other: what they cost is worth nothing when one of them forgot to
 * encrypt, to ask for a certificate or to look at it. Each is tried with the right peer and with wrong ones in the place of the other.
 */

import { once } from 'node:events';
import { type AddressInfo, connect as connectPlain, createServer, type Server, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { type Duplex, pipeline } from 'node:stream';
import { connect as connectTls, TLSSocket } from 'node:tls';
import { UserError } from '../../proxy/core/errors.ts';
import { CIPHER, type Hop, type Identity } from './model.ts';
import { parseServerHello, readRecords } from './tls-records.ts';

/** Every proxy here closes an idle connection at once when its peer has. */
const HANG_UP_TIMEOUT_MS = 5000;

type Exchange = (port: number) => Promise<void>;

/** What goes between two proxies that speak HTTP/2 with each other, where clients and backend do not. */
export interface Inside {
  readonly exchange: Exchange;
  /** The backend in HTTP/2. */
  readonly backendPort: number;
}

/** Where a connection goes: opens the other side of a relay. */
type Dial = (accepted: Socket) => { readonly near: Duplex; readonly far: Duplex };

/**
 * @param hop nothing is checked without one
 * @param exchange one short exchange with the backend
 * @param inside how it goes between proxies that agree on HTTP/2 by ALPN
 * @throws UserError with what is not as it must be
 */
export async function verifyHop(hop: Hop | undefined, exchange: Exchange, inside?: Inside): Promise<void> {
  if (hop === undefined) return;
  const between = hop.alpn === undefined ? undefined : inside;
  await verifyServer(hop, between?.exchange ?? exchange);
  await verifyClient({ ...hop, backendPort: between?.backendPort ?? hop.backendPort }, exchange);
}

/** ALPN as either of them has it. */
function alpnOf({ alpn }: Hop) {
  return alpn === undefined ? {} : { ALPNProtocols: [alpn] };
}

/**
 * We are the client's proxy. It dials from an address that is not loopback, where the machine has one: a sidecar may trust loopback,
 * whose programs can reach the application by themselves; without one only the right client is tried.
 */
async function verifyServer(hop: Hop, exchange: Exchange): Promise<void> {
  const { client, server, impostor } = hop.identities;
  const outside = outsideAddress();
  const from = { host: '127.0.0.1', ...(outside === undefined ? {} : { localAddress: outside }) };
  const as = (own: Identity | undefined): Dial => {
    const credentials = own === undefined ? {} : { cert: own.certificate, key: own.key };
    const ca = server.trustAnchors;
    const to = { ...from, port: hop.port, servername: server.dns, minVersion: 'TLSv1.3' } as const;
    return (near) => ({ near, far: connectTls({ ...to, ca, ...credentials, ...alpnOf(hop) }) });
  };
  const relay = await Relay.open(as(client));
  try {
    await exchange(relay.port);
    if (outside === undefined) return;
    await relay.refuses(as(undefined), exchange, 'the server accepts clients without certificate');
    await relay.refuses(as(impostor), exchange, 'the server accepts certificates of any authority');
    const plain: Dial = (near) => ({ near, far: connectPlain({ ...from, port: hop.port }) });
    await relay.refuses(plain, exchange, 'the server accepts plaintext');
  } finally {
    relay.close();
  }
}

/** We are the server's proxy. */
async function verifyClient(hop: Hop, exchange: Exchange): Promise<void> {
  const { client, server, stranger, impostor } = hop.identities;
  const as = (own: Identity): Dial => {
    const credentials = { cert: own.certificate, key: own.key, ca: client.trustAnchors, requestCert: true };
    const options = { isServer: true, minVersion: 'TLSv1.3', ...credentials, ...alpnOf(hop) } as const;
    return (accepted) => ({
      near: new TLSSocket(accepted, options),
      far: connectPlain(hop.backendPort, '127.0.0.1'),
    });
  };
  const taps: Tap[] = [];
  const relay = await Relay.open((near) => {
    const far = connectPlain(hop.port, '127.0.0.1');
    taps.push(new Tap(near, far));
    return { near, far };
  });
  const proxy = await hop.startClient(relay.port);
  try {
    // Whoever waited for its port connected to it and hung up; what that became is over after one exchange.
    await exchange(proxy.port);
    await relay.hangUp();
    taps.length = 0;
    // Sessions that could be resumed would be by now. Proxies of HTTP keep what they dialled, until it is taken from them.
    await exchange(proxy.port);
    await relay.hangUp();
    await exchange(proxy.port);
    if (taps.length < 2)
      throw new UserError(`two exchanges over ${taps.length} connections between the proxies`);
    for (const tap of taps) tap.check(hop);
    await relay.hangUp();
    relay.dial = as(server);
    await exchange(proxy.port);
    const through = async () => exchange(proxy.port);
    await relay.refuses(as(stranger), through, 'the client accepts servers of any name');
    await relay.refuses(as(impostor), through, 'the client accepts certificates of any authority');
    const plain: Dial = (near) => ({ near, far: connectPlain(hop.backendPort, '127.0.0.1') });
    await relay.refuses(plain, through, 'the client accepts plaintext');
  } finally {
    await proxy.stop();
    relay.close();
  }
}

function outsideAddress(): string | undefined {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return addresses.find(({ family, internal }) => family === 'IPv4' && !internal)?.address;
}

/** A port whose connections go wherever it is told. */
class Relay {
  dial: Dial;
  private readonly server: Server;
  private readonly sockets = new Set<Duplex>();
  private readonly nearEnds = new Set<Duplex>();
  private accepted = 0;

  private constructor(dial: Dial) {
    this.dial = dial;
    this.server = createServer({ allowHalfOpen: true }, (socket) => this.accept(socket));
  }

  static async open(dial: Dial): Promise<Relay> {
    const relay = new Relay(dial);
    relay.server.listen(0, '127.0.0.1');
    await once(relay.server, 'listening');
    return relay;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** @throws UserError with `problem` when an exchange succeeds that goes elsewhere, or was never tried */
  async refuses(dial: Dial, exchange: Exchange, problem: string): Promise<void> {
    await this.hangUp();
    this.dial = dial;
    const before = this.accepted;
    const error = await exchange(this.port).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (error === undefined) throw new UserError(`no mutual TLS: ${problem}`);
    if (this.accepted === before) throw new UserError(`cannot see whether ${problem}: it was not tried`);
  }

  /** Closes what is open as a server does, and waits until the other side has heard of it and closed too. */
  async hangUp(): Promise<void> {
    const open = [...this.nearEnds].filter(({ closed }) => !closed);
    this.nearEnds.clear();
    const signal = AbortSignal.timeout(HANG_UP_TIMEOUT_MS);
    await Promise.all(
      open.map(async (socket) => {
        // A reset is an end, too: `once` would throw it.
        const { promise: closed, resolve } = Promise.withResolvers<void>();
        socket.once('close', resolve);
        signal.addEventListener('abort', () => socket.destroy());
        socket.end();
        await closed;
      }),
    );
  }

  close(): void {
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
  }

  private accept(socket: Socket): void {
    this.accepted++;
    const { near, far } = this.dial(socket);
    for (const one of [socket, near, far]) this.sockets.add(one);
    this.nearEnds.add(near);
    // Whatever breaks one side ends the other, and with it the exchange, whose failure is what is looked at.
    const ended = (error: Error | null | undefined) => {
      if (error === null || error === undefined) return;
      near.destroy();
      far.destroy();
    };
    pipeline(near, far, ended);
    pipeline(far, near, ended);
  }
}

/** What went over one connection between the proxies, as they sent it. */
class Tap {
  private readonly fromClient: Buffer[] = [];
  private readonly fromServer: Buffer[] = [];

  constructor(client: Socket, server: Socket) {
    client.on('data', (piece: Buffer) => this.fromClient.push(piece));
    server.on('data', (piece: Buffer) => this.fromServer.push(piece));
  }

  /** @throws UserError unless all of it is TLS 1.3 with the group, of a full handshake unless the pair resumes sessions */
  check({ group, resumes }: Pick<Hop, 'group' | 'resumes'>): void {
    readRecords(Buffer.concat(this.fromClient));
    const hello = parseServerHello(readRecords(Buffer.concat(this.fromServer))[0]);
    if (hello.group !== group) {
      throw new UserError(`the proxies agreed on the group ${hello.group}, not on ${group}`);
    }
    if (hello.cipher !== CIPHER) {
      throw new UserError(`the proxies agreed on the cipher ${hello.cipher}, not on ${CIPHER}`);
    }
    if (hello.isResumed && !resumes)
      throw new UserError('the proxies resumed a session instead of a full handshake');
  }
}
