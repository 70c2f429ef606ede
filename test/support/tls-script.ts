/**
 * A peer that shakes hands honestly, by node:tls, and then writes whatever a test wants: it has the keys of the
 * connection from node's key log, and seals and opens records by itself.
 */
import { connect as dialNet, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import {
  type ConnectionOptions,
  connect,
  createServer,
  type SecureContextOptions,
  type TLSSocket,
} from 'node:tls';
import type { Test } from 'tap';
import type { Credential } from '../../proxy/control/certificates.ts';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { until } from './engine.ts';
import { CONTENT, type OpenedRecord, type RecordForgery, RecordKey, splitRecords } from './tls-records.ts';

/** The socket as node:tls sees it until the handshake is over. */
class Wire extends Duplex {
  private readonly raw: Socket;
  private detached = false;
  /** Everything that went through, each way. */
  readonly sent: Buffer[] = [];
  readonly received: Buffer[] = [];

  constructor(raw: Socket) {
    super();
    this.raw = raw;
    raw.on('data', (bytes) => {
      this.received.push(bytes);
      if (!this.detached) this.push(bytes);
    });
    raw.on('end', () => {
      if (!this.detached) this.push(null);
    });
  }

  override _read(): void {}

  override _write(bytes: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    if (this.detached) return done();
    this.sent.push(bytes);
    this.raw.write(bytes, done);
  }

  /** From here on node:tls hears nothing and what it says goes nowhere. */
  detach(): void {
    this.detached = true;
  }
}

/** A connection after its handshake. */
export class ScriptedPeer {
  readonly raw: Socket;
  /** The key of what we write, and of what we read. */
  readonly writing: RecordKey;
  readonly reading: RecordKey;
  /** What the engine sent, opened. */
  readonly records: OpenedRecord[] = [];
  /** Records of the engine that could not be opened. */
  unreadable = 0;
  ended = false;
  error: string | undefined;
  private rest: Buffer = Buffer.alloc(0);

  constructor(raw: Socket, wire: Wire, suite: string, mine: Buffer, theirs: Buffer) {
    this.raw = raw;
    this.writing = new RecordKey(suite, mine);
    this.reading = new RecordKey(suite, theirs);
    wire.detach();
    // Tickets of node:tls, under the key that is ours now; what is under the keys of the handshake does not open.
    for (const record of splitRecords(Buffer.concat(wire.sent)).records) this.writing.open(record);
    this.takeRecords(Buffer.concat(wire.received), true);
    raw.on('data', (bytes) => this.takeRecords(bytes, false));
    raw.on('end', () => {
      this.ended = true;
    });
    raw.on('error', (error: NodeJS.ErrnoException) => {
      this.error = error.code;
    });
  }

  /** Application data that arrived. */
  get text(): string {
    return Buffer.concat(this.records.filter(isData).map(({ content }) => content)).toString('latin1');
  }

  /** Descriptions of the alerts that arrived. */
  get alerts(): number[] {
    return this.records.filter(({ type }) => type === CONTENT.alert).map(({ content }) => content[1]);
  }

  /** Seals and sends one record. */
  send(type: number, content: Uint8Array | string, forgery: RecordForgery = {}): void {
    this.raw.write(this.writing.seal(type, Buffer.from(content as string), forgery));
  }

  data(content: Uint8Array | string): void {
    this.send(CONTENT.data, content);
  }

  alert(description: number): void {
    this.send(CONTENT.alert, Buffer.of(description === 0 ? 1 : 2, description));
  }

  private takeRecords(bytes: Buffer, first: boolean): void {
    const { records, rest } = splitRecords(Buffer.concat([this.rest, bytes]));
    this.rest = Buffer.from(rest);
    for (const record of records) {
      const opened = this.reading.open(record);
      if (opened !== undefined) this.takeRecord(opened);
      else if (!first) this.unreadable++;
    }
  }

  private takeRecord(record: OpenedRecord): void {
    this.records.push({ type: record.type, content: Buffer.from(record.content) });
    if (record.type === CONTENT.handshake && record.content[0] === 24) this.reading.update();
  }
}

/** What a scripted peer is made of. */
export interface ScriptOptions {
  readonly credential: Credential;
  readonly anchors: string;
  /** Its name in the standard. */
  readonly suite?: string;
}

/** Connects to an engine that accepts TLS. */
export async function scriptedClient(
  t: Test,
  address: SocketAddress,
  options: ScriptOptions,
): Promise<ScriptedPeer> {
  const raw = dialNet({ host: address.ip, port: address.port, allowHalfOpen: true });
  t.teardown(() => {
    raw.destroy();
  });
  const wire = new Wire(raw);
  const clientOptions: ConnectionOptions = { ...nodeOptions(options), checkServerIdentity: () => undefined };
  const tlsSocket = connect({ ...clientOptions, socket: wire });
  const secrets = new Map<string, Buffer>();
  tlsSocket.on('keylog', (line: Buffer) => keep(secrets, line));
  await new Promise<void>((resolve, reject) => {
    tlsSocket.on('secureConnect', resolve).on('error', reject);
  });
  return new ScriptedPeer(
    raw,
    wire,
    tlsSocket.getCipher().standardName,
    ...both(secrets, 'CLIENT', 'SERVER'),
  );
}

/** Shakes hands as the server of a connection that `raw` has just accepted. */
export async function scriptedServer(t: Test, raw: Socket, options: ScriptOptions): Promise<ScriptedPeer> {
  t.teardown(() => {
    raw.destroy();
  });
  const wire = new Wire(raw);
  const server = createServer({ ...nodeOptions(options), requestCert: true });
  const secrets = new Map<string, Buffer>();
  server.on('keylog', (line: Buffer) => keep(secrets, line));
  const secured = new Promise<TLSSocket>((resolve, reject) => {
    server.on('secureConnection', resolve).on('tlsClientError', reject);
  });
  server.emit('connection', wire);
  raw.resume();
  const tlsSocket = await secured;
  await until(() => secrets.size === 2, 'the secrets of the connection');
  return new ScriptedPeer(
    raw,
    wire,
    tlsSocket.getCipher().standardName,
    ...both(secrets, 'SERVER', 'CLIENT'),
  );
}

/** What node:tls needs to be a peer of the mesh. */
export function nodeOptions({ credential, anchors, suite }: ScriptOptions): SecureContextOptions {
  return {
    cert: credential.certificatePem,
    key: credential.keyPem,
    ca: anchors,
    minVersion: 'TLSv1.3',
    ...(suite === undefined ? {} : { ciphers: suite }),
  };
}

function isData({ type }: OpenedRecord): boolean {
  return type === CONTENT.data;
}

function keep(secrets: Map<string, Buffer>, line: Buffer): void {
  const [label, , hex] = line.toString('latin1').trim().split(' ');
  const match = /^(CLIENT|SERVER)_TRAFFIC_SECRET_0$/.exec(label);
  if (match !== null) secrets.set(match[1], Buffer.from(hex, 'hex'));
}

function both(secrets: ReadonlyMap<string, Buffer>, mine: string, theirs: string): [Buffer, Buffer] {
  const [a, b] = [secrets.get(mine), secrets.get(theirs)];
  if (a === undefined || b === undefined) throw new Error('the key log lacks a secret');
  return [a, b];
}
