/** HTTP/2 by hand over a real socket. */
import { connect } from 'node:net';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { FrameSplitter, type H2Connection, type PlainFrame } from './h2.ts';

/** What does not come within this does not come, in ms. Only cases that fail wait for so long. */
const QUIET_MS = 5000;

/** Opens a connection, which is closed by its peer, or by `close`. */
export function connectSocket(address: SocketAddress): H2Connection & { close(): void } {
  const socket = connect(address.port, address.ip);
  const splitter = new FrameSplitter();
  const frames: PlainFrame[] = [];
  let ended = false;
  let wake = () => {};
  socket.on('data', (bytes) => {
    frames.push(...splitter.push(bytes));
    wake();
  });
  // A server that resets what it does not want to hear has closed it as well.
  socket.on('error', () => socket.destroy());
  socket.on('close', () => {
    ended = true;
    wake();
  });
  socket.on('end', () => socket.end());
  return {
    write: (bytes) => socket.write(bytes),
    close: () => socket.destroy(),
    next: async () => {
      const isThere = () => frames.length > 0 || ended;
      if (!isThere()) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, QUIET_MS);
          wake = () => {
            if (!isThere()) return;
            clearTimeout(timer);
            resolve();
          };
        });
      }
      return frames.shift() ?? (ended ? 'closed' : 'quiet');
    },
  };
}
