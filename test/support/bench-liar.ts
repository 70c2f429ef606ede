/** Proxies that lose, change or add what passes through them, for tests of what finds them out. */

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Test } from 'tap';

/** What a lying proxy makes of the next piece; `seen` is how many bytes came before it. */
export type Spoil = (piece: Buffer, seen: number, socket: Socket) => Buffer;

export const HONEST: Spoil = (piece) => piece;

export function flipByte(at: number): Spoil {
  return (piece, seen) => {
    if (at < seen || at >= seen + piece.length) return piece;
    const changed = Buffer.from(piece);
    changed[at - seen] ^= 1;
    return changed;
  };
}

export function loseByte(at: number): Spoil {
  return (piece, seen) =>
    at < seen || at >= seen + piece.length
      ? piece
      : Buffer.concat([piece.subarray(0, at - seen), piece.subarray(at - seen + 1)]);
}

export const closeEarly: Spoil = (piece, _seen, socket) => {
  setImmediate(() => socket.end());
  return piece.subarray(0, piece.length - 1);
};

/** Starts a proxy between clients and `backendPort`. @returns its port */
export async function startLiar(
  t: Test,
  backendPort: number,
  toClient: Spoil,
  toBackend = HONEST,
): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const backend = connect({ port: backendPort, host: '127.0.0.1', allowHalfOpen: true });
    pump(client, backend, toBackend);
    pump(backend, client, toClient);
    for (const socket of [client, backend]) {
      sockets.add(socket);
      // The other side goes with it; that a client hangs up when it was lied to is what is tested.
      socket.on('error', () => sockets.forEach((other) => void other.destroy()));
      socket.setNoDelay(true);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

function pump(from: Socket, to: Socket, spoil: Spoil): void {
  let seen = 0;
  from.on('data', (piece: Buffer) => {
    to.write(spoil(piece, seen, to));
    seen += piece.length;
  });
  from.on('end', () => to.end());
}
