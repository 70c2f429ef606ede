/**
 * TCP behaviours for tests, as programs of their own: they run inside a namespace and print one JSON line per fact.
 *
 *   tcp-peer.ts serve HOST PORT            first byte of a connection names what the server does with it
 *   tcp-peer.ts ask HOST PORT WHAT BYTES   a client of it
 *
 * What the server does: `E` echoes, half-open; `H` reads to the end, then answers the SHA-256 of what came; `S` sends BYTES and
 * ends, whatever comes; `R` resets; `W` waits for the end of the client, then says `bye` (half-close in the other order); `A`
 * does the same with the addresses it sees: the client's IP, then its own and the port.
 */
import { createHash } from 'node:crypto';
import net from 'node:net';

const BLOCK_BYTES = 65_536;
/** Answers up to this length are told as text as well. */
const SHORT_BYTES = 100;

/** Without a period: nothing of it can be missing, doubled or in another place unseen. */
const BLOCK = Buffer.concat(
  Array.from({ length: BLOCK_BYTES / 32 }, (_, index) => createHash('sha256').update(String(index)).digest()),
);
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
  const addresses = `${socket.remoteAddress} ${socket.localAddress} ${socket.localPort}`;
  socket.on('end', () => {
    const answers: Record<string, () => string> = { H: () => hash.digest('hex'), A: () => addresses };
    socket.end(answers[command]?.() ?? 'bye');
  });
}

/** Sends `amount` bytes of the pattern and ends. */
function send(socket: net.Socket, amount: number): void {
  const parts = pattern(amount);
  const more = (): void => {
    for (let part = parts.next(); !part.done; part = parts.next()) {
      if (!socket.write(part.value)) return void socket.once('drain', more);
    }
    socket.end();
  };
  more();
}

function ask(command: string, amount: number): void {
  const socket = net.connect({ host, port: Number(port), allowHalfOpen: true });
  const received = createHash('sha256');
  let text = '';
  let count = 0;
  socket.on('data', (chunk) => {
    received.update(chunk);
    if (count + chunk.length <= SHORT_BYTES) text += chunk;
    count += chunk.length;
  });
  socket.on('end', () => socket.end());
  socket.on('error', (error: NodeJS.ErrnoException) => {
    say({ error: error.code, received: count });
    process.exit(0);
  });
  socket.on('close', (failed) => {
    if (failed) return;
    const short = count <= SHORT_BYTES ? { text } : {};
    say({ received: count, sha256: received.digest('hex'), sent: patternHash(amount), ...short });
  });
  socket.on('connect', () => {
    socket.write(command + amount.toString(16).padStart(8, '0'));
    if (command === 'H' || command === 'E') send(socket, amount);
    if (command === 'W' || command === 'A') socket.end();
  });
}

function patternHash(amount: number): string {
  const hash = createHash('sha256');
  for (const part of pattern(amount)) hash.update(part);
  return hash.digest('hex');
}

/** `amount` bytes, in blocks that begin with their number. */
function* pattern(amount: number): Generator<Buffer, void> {
  for (let at = 0; at < amount; at += BLOCK_BYTES) {
    const block = Buffer.from(BLOCK);
    block.writeUInt32BE(at / BLOCK_BYTES);
    yield block.subarray(0, amount - at);
  }
}
