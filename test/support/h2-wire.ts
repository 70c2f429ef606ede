/** HTTP/2 peers that speak frame by frame over real sockets. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect, createServer, type Socket } from 'node:net';
import type { Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { FLAG, FRAME, PREFACE } from '../../proxy/http/h2/frames.ts';
import { at } from './engine.ts';
import { clientStart, FrameSplitter, join, type PlainFrame, settings, settingsAck } from './h2.ts';
import { eventually } from './proxy.ts';

/** One end of a connection; SETTINGS are acknowledged by it. */
export class H2Wire {
  readonly socket: Socket;
  /** All that has come. */
  readonly frames: PlainFrame[] = [];
  closed = false;
  private readonly splitter = new FrameSplitter();
  private toSkip: number;

  constructor(socket: Socket, isServer: boolean, take: (wire: H2Wire, frame: PlainFrame) => void) {
    this.socket = socket.setNoDelay();
    this.toSkip = isServer ? PREFACE.length : 0;
    socket.on('error', () => socket.destroy());
    socket.on('end', () => socket.end());
    socket.on('close', () => {
      this.closed = true;
    });
    socket.on('data', (bytes: Buffer) => {
      const skipped = Math.min(this.toSkip, bytes.length);
      this.toSkip -= skipped;
      for (const frame of this.splitter.push(bytes.subarray(skipped))) {
        this.frames.push(frame);
        if (frame.type === FRAME.settings && (frame.flags & FLAG.ack) === 0) this.send(settingsAck());
        take(this, frame);
      }
    });
  }

  /** Sends bytes as they are. */
  send(...parts: readonly Uint8Array[]): void {
    if (!this.socket.destroyed) this.socket.write(join(...parts));
  }

  /** The first frame that is wanted, once it is there. */
  expect(what: string, isIt: (frame: PlainFrame) => boolean): Promise<PlainFrame> {
    return eventually(what, () => {
      const found = this.frames.find(isIt);
      if (found === undefined && this.closed) throw new Error(`${what}: the connection has ended`);
      return found;
    });
  }

  /** The first frame of a type on a stream, once it is there. */
  frame(type: number, stream: number): Promise<PlainFrame> {
    return this.expect(`frame ${type} of stream ${stream}`, (frame) => {
      return frame.type === type && frame.stream === stream;
    });
  }
}

/** Connects as a client whose SETTINGS are these. */
export function dialH2(
  t: Test,
  { ip, port }: SocketAddress,
  ...pairs: readonly (readonly [setting: number, value: number])[]
): H2Wire {
  const wire = new H2Wire(connect({ host: ip, port }), false, () => undefined);
  t.teardown(() => wire.socket.destroy());
  wire.send(clientStart(...pairs));
  return wire;
}

/** Starts a server that says SETTINGS and then what `take` makes it say. */
export async function serveH2(
  t: Test,
  take: (wire: H2Wire, frame: PlainFrame) => void,
  ...pairs: readonly (readonly [setting: number, value: number])[]
): Promise<{ address: SocketAddress; wires: H2Wire[] }> {
  const wires: H2Wire[] = [];
  const server = createServer((socket) => {
    const wire = new H2Wire(socket, true, take);
    wires.push(wire);
    wire.send(settings(...pairs));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    for (const { socket } of wires) socket.destroy();
  });
  return { address: at(`127.0.0.1:${(server.address() as AddressInfo).port}`), wires };
}
