/** Programs of others as HTTP clients and servers of a test. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { at } from './engine.ts';
import { type HttpServerProgram, prepareServer } from './http-servers.ts';
import { eventually } from './proxy.ts';

/** How a program ended. */
export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end, at most 30 s. */
export async function run(
  command: string,
  args: readonly string[],
  input: Buffer | string = '',
): Promise<Ran> {
  const child = spawn(command, args, { timeout: 30_000 });
  const out: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout.on('data', (bytes) => out.push(bytes));
  child.stderr.on('data', (bytes) => errors.push(bytes));
  // A program that does not want its input closes it.
  child.stdin.on('error', () => child.stdin.destroy()).end(input);
  const [status] = await once(child, 'close');
  const [stdout, stderr] = [out, errors].map((parts) => Buffer.concat(parts).toString('latin1'));
  return { status, stdout, stderr };
}

/** A server that runs until it is stopped, or the test ends. */
export interface StartedProgram {
  readonly address: SocketAddress;
  stop(): Promise<void>;
}

/** Starts a server in a folder of its own, and waits until it listens. */
export async function startServer(
  t: Test,
  command: string,
  server: HttpServerProgram,
): Promise<StartedProgram> {
  const folder = mkdtempSync(join(tmpdir(), `ferrule-http-${process.pid}-`));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return startProgram(t, command, (address) => {
    prepareServer(server, folder, address);
    return server.args(folder, address);
  });
}

/** Starts a server at an address that is free, and waits until it listens. */
export async function startProgram(
  t: Test,
  command: string,
  args: (address: SocketAddress) => readonly string[],
): Promise<StartedProgram> {
  const address = at(`127.0.0.1:${await freePort()}`);
  const child = spawn(command, args(address), { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (bytes) => {
      said += bytes;
    });
  const ended = once(child, 'close');
  const stop = async () => {
    child.kill('SIGTERM');
    await ended;
  };
  t.teardown(stop);
  await eventually(`${command} listens`, async () => {
    if (child.exitCode !== null) throw new Error(`${command} ended: ${said}`);
    return (await accepts(address.port)) || undefined;
  });
  return { address, stop };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
