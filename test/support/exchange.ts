/** A client of an echo server that checks every byte, and the server. */

import { connect } from 'node:net';
import type { Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { bytesOf, isStream, type PeerServer, serve } from './engine-peers.ts';

/** A server that sends everything back and ends when the client does. */
export function serveEcho(t: Test): Promise<PeerServer> {
  return serve(t, ({ socket }) => {
    socket.pipe(socket);
  });
}

/**
 * Sends `length` bytes of stream number `stream`, ends its side, and reads until the other side ends.
 * @returns what went wrong; undefined when exactly these bytes came back, followed by an orderly end
 */
export function exchange(
  address: SocketAddress,
  stream: number,
  length: number,
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: address.ip, port: address.port, allowHalfOpen: true });
    let received = 0;
    let wrong: string | undefined;
    let ended = false;
    socket.on('data', (bytes) => {
      if (!isStream(stream, received, bytes)) wrong ??= `other bytes after ${received}`;
      received += bytes.length;
    });
    socket.on('end', () => {
      ended = true;
    });
    socket.on('error', (error) => {
      wrong ??= error.message;
    });
    socket.on('close', () => {
      if (!ended) wrong ??= 'no orderly end';
      if (received !== length) wrong ??= `${received} bytes of ${length}`;
      resolve(wrong);
    });
    socket.end(bytesOf(stream, 0, length));
  });
}

/** Exchanges `count` times, `parallel` at once. @returns what went wrong */
export async function exchangeMany(
  address: SocketAddress,
  count: number,
  parallel: number,
  length: number,
): Promise<string[]> {
  const failures: string[] = [];
  let next = 0;
  const run = async () => {
    while (next < count) {
      const failure = await exchange(address, next++, length);
      if (failure !== undefined) failures.push(failure);
    }
  };
  await Promise.all(Array.from({ length: parallel }, run));
  return failures;
}
