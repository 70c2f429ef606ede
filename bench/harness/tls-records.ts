/** As much of TLS 1.3 as can be read from outside (RFC 8446). */

import { UserError } from '../../proxy/core/errors.ts';

/** Section 5.1. */
export interface TlsRecord {
  readonly type: number;
  readonly body: Buffer;
}

/** What a ServerHello says. */
export interface ServerHello {
  /** Its name, or its number in hexadecimal where we know none. */
  readonly group: string;
  /** The same. */
  readonly cipher: string;
  /** By a pre-shared key (section 2.2). */
  readonly isResumed: boolean;
}

const TYPE = { changeCipherSpec: 20, alert: 21, handshake: 22, applicationData: 23 } as const;
const SERVER_HELLO = 2;
/** Sections 4.2.1, 4.2.8 and 4.2.11. */
const EXTENSION = { preSharedKey: 41, supportedVersions: 43, keyShare: 51 } as const;
const TLS_1_3 = 0x0304;
/** From the registry of supported groups. */
const GROUPS: ReadonlyMap<number, string> = new Map([
  [0x0017, 'P-256'],
  [0x001d, 'X25519'],
  [0x11ec, 'X25519MLKEM768'],
]);
/** Section B.4. */
const CIPHERS: ReadonlyMap<number, string> = new Map([
  [0x1301, 'TLS_AES_128_GCM_SHA256'],
  [0x1302, 'TLS_AES_256_GCM_SHA384'],
  [0x1303, 'TLS_CHACHA20_POLY1305_SHA256'],
]);

/**
 * Takes one direction of a connection apart.
 * @throws UserError when it is anything but the handshake in the clear, of one record, and encrypted records after it
 */
export function readRecords(bytes: Buffer): TlsRecord[] {
  const records: TlsRecord[] = [];
  for (let at = 0; at < bytes.length; ) {
    const type = bytes[at];
    const length = at + 5 <= bytes.length ? bytes.readUInt16BE(at + 3) : 0;
    if (bytes[at + 1] !== 3 || at + 5 + length > bytes.length) {
      throw new UserError(`what the proxies say to each other is no TLS from byte ${at} on`);
    }
    records.push({ type, body: bytes.subarray(at + 5, at + 5 + length) });
    at += 5 + length;
  }
  const types = records.map(({ type }) => type).filter((type) => type !== TYPE.changeCipherSpec);
  if (types[0] !== TYPE.handshake || types.slice(1).some((type) => type !== TYPE.applicationData)) {
    throw new UserError(`the proxies sent records of the types ${types.join(' ')}: not all are encrypted`);
  }
  return records;
}

/** @throws UserError unless the record is a ServerHello of TLS 1.3 */
export function parseServerHello({ body }: TlsRecord): ServerHello {
  if (body[0] !== SERVER_HELLO) throw new UserError(`handshake message ${body[0]} instead of a ServerHello`);
  // Type and length, version, random; then the session ID, the cipher suite and the compression method (section 4.1.3).
  let at = 4 + 2 + 32;
  at += 1 + body[at];
  const cipher = nameOf(body.readUInt16BE(at), CIPHERS);
  at += 2 + 1;
  const end = at + 2 + body.readUInt16BE(at);
  const extensions = new Map<number, Buffer>();
  for (at += 2; at < end; ) {
    const length = body.readUInt16BE(at + 2);
    extensions.set(body.readUInt16BE(at), body.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  if (extensions.get(EXTENSION.supportedVersions)?.readUInt16BE(0) !== TLS_1_3) {
    throw new UserError('the proxies agreed on a version before TLS 1.3');
  }
  const group = extensions.get(EXTENSION.keyShare)?.readUInt16BE(0) ?? 0;
  return {
    group: nameOf(group, GROUPS),
    cipher,
    isResumed: extensions.has(EXTENSION.preSharedKey),
  };
}

function nameOf(number: number, names: ReadonlyMap<number, string>): string {
  return names.get(number) ?? `0x${number.toString(16).padStart(4, '0')}`;
}
