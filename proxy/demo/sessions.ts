/** How clients talk to a service: one connection, every answer checked; one exchange at a time where the protocol has no streams. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Agent, get } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { openGrpc, openHttp2 } from './http2-sessions.ts';
import type { ClientService } from './messages.ts';
import { programPath } from './programs.ts';
import type { Protocol } from './services.ts';
import { type Session, within, wrongAnswer } from './session.ts';

/** Opens a connection; rejects when it cannot. */
export function openSession(service: ClientService): Promise<Session> {
  return OPENERS[service.protocol](service);
}

const OPENERS: Readonly<Record<Protocol, (service: ClientService) => Promise<Session>>> = {
  echo: openEcho,
  http: async (service) => new WebSession(service),
  http2: openHttp2,
  grpc: openGrpc,
  redis: openRedis,
  postgres: openPostgres,
  mariadb: openMariadb,
};

/** Requests and answers that are known to the byte. */
class ByteSession {
  private readonly socket: Socket;
  private received = '';
  private expected = '';
  private waiting: PromiseWithResolvers<void> | undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => this.take(text));
    socket.on('error', (error) => this.fail(error));
    socket.on('close', () => this.fail(new Error('the connection was closed')));
  }

  static async open({ dial }: ClientService): Promise<ByteSession> {
    const socket = connect({ host: dial.ip, port: dial.port, noDelay: true });
    const session = new ByteSession(socket);
    await session.within(`connecting to ${dial.ip}:${dial.port}`, once(socket, 'connect'));
    return session;
  }

  async exchange(request: string, expected: string): Promise<void> {
    if (this.socket.destroyed) throw new Error('the connection was closed');
    this.waiting = Promise.withResolvers();
    this.received = '';
    this.expected = expected;
    this.socket.write(request, 'latin1');
    await this.within('an answer', this.waiting.promise);
  }

  close(): void {
    this.socket.destroy();
  }

  private take(text: string): void {
    this.received += text;
    if (this.received === this.expected) return this.waiting?.resolve();
    if (!this.expected.startsWith(this.received)) {
      this.fail(wrongAnswer(this.received));
    }
  }

  private fail(error: Error): void {
    this.waiting?.reject(error);
    this.socket.destroy();
  }

  private within<T>(what: string, promise: Promise<T>): Promise<T> {
    return within(what, promise, () => this.socket.destroy());
  }
}

async function openEcho(service: ClientService): Promise<Session> {
  const bytes = await ByteSession.open(service);
  return {
    exchange: (round) => {
      const text = `echo ${round} ${'x'.repeat(round % ECHO_SIZES)}\n`;
      return bytes.exchange(text, text);
    },
    close: () => bytes.close(),
  };
}

/** Echoed texts are of all sizes up to a typical MTU, so that one read is not always one answer. */
const ECHO_SIZES = 1500;

async function openRedis(service: ClientService): Promise<Session> {
  const bytes = await ByteSession.open(service);
  if (service.password !== undefined) await bytes.exchange(command('AUTH', service.password), '+OK\r\n');
  let step = 0;
  return {
    exchange: () => {
      // By connection: its GET then always comes after its SET.
      if (step++ % 3 === 0) return bytes.exchange(command('PING'), '+PONG\r\n');
      if (step % 3 === 2) return bytes.exchange(command('SET', KEY, VALUE), '+OK\r\n');
      return bytes.exchange(command('GET', KEY), `$${VALUE.length}\r\n${VALUE}\r\n`);
    },
    close: () => bytes.close(),
  };
}

/** One for all clients, with one value: the demo measures a proxy, not a database. */
const KEY = 'demo';
const VALUE = 'the same for every client';

/** A command in RESP, the protocol of Redis. */
function command(...words: string[]): string {
  return `*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`;
}

class WebSession implements Session {
  private readonly agent = new Agent({ keepAlive: true, maxSockets: 1 });
  private readonly service: ClientService;

  constructor(service: ClientService) {
    this.service = service;
  }

  async exchange(round: number): Promise<void> {
    const { dial } = this.service;
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const request = get(
      { host: dial.ip, port: dial.port, path: `/${round}`, agent: this.agent },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('error', reject);
        response.on('end', () => resolve(`${response.statusCode} ${text}`));
      },
    );
    request.on('error', reject);
    const answer = await within('an answer', promise, () => request.destroy());
    if (!answer.startsWith(`200 GET /${round} served by `)) {
      throw wrongAnswer(answer);
    }
  }

  close(): void {
    this.agent.destroy();
  }
}

/** The database's own client, kept running: a query in, a line out. */
class LineSession implements Session {
  private readonly child: ChildProcess;
  private readonly input: NodeJS.WritableStream;
  private buffered = '';
  private said = '';
  private waiting: PromiseWithResolvers<string> | undefined;

  private constructor(name: string, args: readonly string[], env: NodeJS.ProcessEnv) {
    const child = spawn(programPath(name) ?? name, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    this.child = child;
    this.input = child.stdin;
    // A client that ended is reported by its end.
    child.stdin.on('error', () => child.kill());
    this.read(child.stdout);
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.said = text.trim();
    });
    child.on('error', (error) => this.waiting?.reject(error));
    child.on('close', () => this.waiting?.reject(new Error(`${name} ended: ${this.said}`)));
  }

  /** Connected when it has answered once: the start of a program is no latency of a query. */
  static async open(name: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<LineSession> {
    const session = new LineSession(name, args, env);
    await session.exchange(0);
    return session;
  }

  async exchange(round: number): Promise<void> {
    if (this.child.exitCode !== null) throw new Error(`the client ended: ${this.said}`);
    this.waiting = Promise.withResolvers();
    this.input.write(`SELECT ${round} + 1;\n`);
    const line = await within('an answer', this.waiting.promise, () => this.child.kill());
    if (line !== String(round + 1)) throw wrongAnswer(line);
  }

  close(): void {
    // The end of its input is how it is told to say good-bye to the server.
    this.input.end();
  }

  private read(stream: Readable): void {
    stream.setEncoding('utf8').on('data', (text: string) => {
      this.buffered += text;
      const end = this.buffered.indexOf('\n');
      if (end < 0) return;
      const line = this.buffered.slice(0, end);
      this.buffered = this.buffered.slice(end + 1);
      this.waiting?.resolve(line);
    });
  }
}

function openPostgres({ dial, password }: ClientService): Promise<Session> {
  const args = [
    '-X',
    '-q',
    '-A',
    '-t',
    '-h',
    dial.ip,
    '-p',
    String(dial.port),
    '-U',
    'demo',
    '-d',
    'postgres',
  ];
  return LineSession.open('psql', args, { PGPASSWORD: password });
}

function openMariadb({ dial, password }: ClientService): Promise<Session> {
  const args = ['--no-defaults', '--unbuffered', '-N', '-h', dial.ip, '-P', String(dial.port), '-u', 'root'];
  return LineSession.open('mariadb', args, { MYSQL_PWD: password });
}
