/**
 * A program for tests: listens and greets everyone with a banner, so that whoever dials learns where it ended up.
 * Arguments: one JSON list of `Greeter`; prints `ready` when all of them listen.
 */

import { createServer } from 'node:net';

/** One listener. */
export interface Greeter {
  /** IP literal; `::` listens on IPv6 alone. */
  readonly host: string;
  readonly port: number;
  readonly banner: string;
}

if (import.meta.main) {
  const greeters: Greeter[] = JSON.parse(process.argv[2]);
  await Promise.all(greeters.map(greet));
  process.stdout.write('ready\n');
}

function greet({ host, port, banner }: Greeter): Promise<void> {
  const server = createServer((socket) => {
    // Dialers reset at will; that is their right.
    socket.on('error', () => socket.destroy());
    socket.end(banner);
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, ipv6Only: host.includes(':') }, resolve);
  });
}
