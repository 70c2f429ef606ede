/** A socket under node:tls that says how the connection ended: node:tls itself takes a reset that a write met for an end. */

import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

/** Passes everything on, both ways and with backpressure; a failure of the socket is one of the stream. */
export class Tap extends Duplex {
  private readonly raw: Socket;

  constructor(raw: Socket) {
    super({ allowHalfOpen: true });
    this.raw = raw;
    raw.pause();
    raw.on('data', (bytes) => {
      if (!this.push(bytes)) raw.pause();
    });
    raw.on('end', () => this.push(null));
    raw.on('error', (error) => this.destroy(error));
    raw.on('close', () => this.destroy());
  }

  override _read(): void {
    this.raw.resume();
  }

  override _write(bytes: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.raw.write(bytes, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.raw.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.raw.destroy();
    done(error);
  }
}
