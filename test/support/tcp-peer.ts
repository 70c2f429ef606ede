/**
 * TCP behaviours for tests, as programs of their own: they run inside a namespace and print one JSON line per fact.
 *
 *   tcp-peer.ts serve HOST PORT            first byte of a connection names what the server does with it
 *   tcp-peer.ts ask HOST PORT WHAT BYTES   a client of it
 *
 * What the server does: `E` echoes, half-open; `H` reads to the end, then answers the SHA-256 of what came; `S` sends BYTES and
 * ends, whatever comes; `R` resets; `W` waits for the end of the client, then says `bye` (half-close in the other order).
 */
import { createHash } from 'node:crypto';
import net from 'node:net';

const BLOCK = Buffer.alloc(65_536, 'ferrule ');
const [mode, host, port, what, bytes] = process.argv.slice(2);

if (mode === 'serve') serve();
else ask(what, Number(bytes ?? 0));

function say(fact: object): void {
  process.stdout.write(`${JSON.stringify(fact)}\n`);
}

function serve(): void {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', (error: NodeJS.ErrnoException) => say({ error: error.code }));
    socket.once('readable', () => {
      const command = socket.read(9)?.toString() ?? '';
      behave(socket, command[0], Number.parseInt(command.slice(1), 16));
    });
  });
  server.listen(Number(port), host, () => say({ listening: Number(port) }));
}

function behave(socket: net.Socket, command: string, amount: number): void {
  if (command === 'R') return void socket.resetAndDestroy();
  if (command === 'S') return send(socket, amount);
  if (command === 'E') {
    socket.pipe(socket);
    return;
  }
  const hash = createHash('sha256');
  socket.on('data', (chunk) => hash.update(chunk));
  socket.on('end', () => socket.end(command === 'H' ? hash.digest('hex') : 'bye'));
}

/** Sends `amount` bytes of the pattern and ends. */
function send(socket: net.Socket, amount: number): void {
  let left = amount;
  const more = (): void => {
    while (left > 0) {
      const part = BLOCK.subarray(0, Math.min(left, BLOCK.length));
      left -= part.length;
      if (!socket.write(part)) return void socket.once('drain', more);
    }
    socket.end();
  };
  more();
}

function ask(command: string, amount: number): void {
  const socket = net.connect({ host, port: Number(port), allowHalfOpen: true });
  const received = createHash('sha256');
  let count = 0;
  socket.on('data', (chunk) => {
    received.update(chunk);
    count += chunk.length;
  });
  socket.on('end', () => socket.end());
  socket.on('error', (error: NodeJS.ErrnoException) => {
    say({ error: error.code, received: count });
    process.exit(0);
  });
  socket.on('close', (failed) => {
    if (!failed) say({ received: count, sha256: received.digest('hex'), sent: patternHash(amount) });
  });
  socket.on('connect', () => {
    socket.write(command + amount.toString(16).padStart(8, '0'));
    if (command === 'H' || command === 'E') send(socket, amount);
    if (command === 'W') socket.end();
  });
}

function patternHash(amount: number): string {
  const hash = createHash('sha256');
  for (let left = amount; left > 0; left -= BLOCK.length)
    hash.update(BLOCK.subarray(0, Math.min(left, BLOCK.length)));
  return hash.digest('hex');
}
