/**
 * TLS 1.3 records from the other side (RFC 8446 sections 5 and 7): an implementation that shares nothing with the engine's,
 * and that also writes what no honest peer would.
 */
import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';

/** Content types (RFC 8446 section 5.1). */
export const CONTENT = { changeCipherSpec: 20, alert: 21, handshake: 22, data: 23 } as const;

const HEADER_BYTES = 5;
const TAG_BYTES = 16;

interface Suite {
  readonly algorithm: 'aes-128-gcm' | 'aes-256-gcm' | 'chacha20-poly1305';
  readonly hash: 'sha256' | 'sha384';
  readonly keyBytes: number;
}

const SUITES: Readonly<Record<string, Suite>> = {
  TLS_AES_128_GCM_SHA256: { algorithm: 'aes-128-gcm', hash: 'sha256', keyBytes: 16 },
  TLS_AES_256_GCM_SHA384: { algorithm: 'aes-256-gcm', hash: 'sha384', keyBytes: 32 },
  TLS_CHACHA20_POLY1305_SHA256: { algorithm: 'chacha20-poly1305', hash: 'sha256', keyBytes: 32 },
};

/** What a forged record may have that an honest one has not. */
export interface RecordForgery {
  /** Zeros behind the content type. */
  readonly padding?: number;
  /** The content type outside, which is always that of data. */
  readonly outerType?: number;
  /** No content type at all: zeros only. */
  readonly untyped?: boolean;
  /** A bit of the tag is turned. */
  readonly spoilTag?: boolean;
}

/** A record as it was opened. */
export interface OpenedRecord {
  readonly type: number;
  readonly content: Buffer;
}

/** One direction of a connection: its traffic secret and how many records went. */
export class RecordKey {
  private readonly suite: Suite;
  private secret: Buffer;
  private key: Buffer;
  private iv: Buffer;
  private sequence = 0n;

  /** @param suite its name in the standard */
  constructor(suite: string, secret: Buffer) {
    this.suite = SUITES[suite];
    this.secret = secret;
    [this.key, this.iv] = this.derive();
  }

  /** Moves on by a generation (RFC 8446 section 7.2). */
  update(): void {
    this.secret = expandLabel(this.suite.hash, this.secret, 'traffic upd', this.secret.length);
    [this.key, this.iv] = this.derive();
    this.sequence = 0n;
  }

  /** One record. */
  seal(type: number, content: Uint8Array, forgery: RecordForgery = {}): Buffer {
    const typed = forgery.untyped ? [] : [Buffer.of(type)];
    const plain = Buffer.concat([content, ...typed, Buffer.alloc(forgery.padding ?? 0)]);
    const header = Buffer.of(forgery.outerType ?? CONTENT.data, 3, 3, 0, 0);
    header.writeUInt16BE(plain.length + TAG_BYTES, 3);
    const cipher = createCipheriv(this.suite.algorithm as 'aes-128-gcm', this.key, this.nonce(), {
      authTagLength: TAG_BYTES,
    });
    cipher.setAAD(header);
    const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
    const tag = cipher.getAuthTag();
    if (forgery.spoilTag) tag[7] ^= 4;
    return Buffer.concat([header, sealed, tag]);
  }

  /** Opens one whole record; undefined, and nothing changed, when it is not of this key and place. */
  open(record: Buffer): OpenedRecord | undefined {
    if (record.length < HEADER_BYTES + TAG_BYTES) return undefined;
    const before = this.sequence;
    const decipher = createDecipheriv(this.suite.algorithm as 'aes-128-gcm', this.key, this.nonce(), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(record.subarray(0, HEADER_BYTES));
    decipher.setAuthTag(record.subarray(-TAG_BYTES));
    const plain = decipher.update(record.subarray(HEADER_BYTES, -TAG_BYTES));
    try {
      decipher.final();
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      this.sequence = before;
      return undefined;
    }
    let end = plain.length;
    while (end > 0 && plain[end - 1] === 0) end--;
    return { type: plain[end - 1], content: plain.subarray(0, end - 1) };
  }

  private derive(): [Buffer, Buffer] {
    const { hash, keyBytes } = this.suite;
    return [expandLabel(hash, this.secret, 'key', keyBytes), expandLabel(hash, this.secret, 'iv', 12)];
  }

  private nonce(): Buffer {
    const nonce = Buffer.from(this.iv);
    nonce.writeBigUInt64BE(nonce.readBigUInt64BE(4) ^ this.sequence++, 4);
    return nonce;
  }
}

/** Cuts a stream into records; the rest is the beginning of one. */
export function splitRecords(stream: Buffer): { readonly records: Buffer[]; readonly rest: Buffer } {
  const records: Buffer[] = [];
  let at = 0;
  while (stream.length - at >= HEADER_BYTES) {
    const end = at + HEADER_BYTES + stream.readUInt16BE(at + 3);
    if (end > stream.length) break;
    records.push(stream.subarray(at, end));
    at = end;
  }
  return { records, rest: stream.subarray(at) };
}

/** HKDF-Expand-Label without context (RFC 8446 section 7.1), of one block at most. */
function expandLabel(hash: string, secret: Buffer, label: string, length: number): Buffer {
  const name = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([Buffer.of(length >> 8, length, name.length), name, Buffer.of(0, 1)]);
  return createHmac(hash, secret).update(info).digest().subarray(0, length);
}
