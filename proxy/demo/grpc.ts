/**
 * The gRPC service of the demo, by hand: `service demo.Echo { rpc Once (Text) returns (Text); rpc Converse (stream Text) returns
 * (stream Text); } message Text { string text = 1; }`. Framing is that of the gRPC protocol over HTTP/2: each message behind a
 * byte that says whether it is compressed, and its length in four.
 */

/** The value of `:path` for each method. */
export const METHODS = { once: '/demo.Echo/Once', converse: '/demo.Echo/Converse' } as const;

/** The values of `grpc-status` that its server gives. */
export const STATUS = { ok: 0, invalidArgument: 3, unimplemented: 12 } as const;

/** Not compressed, then the length. */
const PREFIX_BYTES = 5;

/** Field 1, of a type with a length (protocol buffers). */
const TEXT_TAG = 0x0a;

/** Longer ones would need a second byte for their length. */
const MAX_TEXT_BYTES = 127;

/** A Text with its prefix. @throws RangeError for more than 127 bytes of UTF-8 */
export function encodeText(text: string): Buffer {
  const bytes = Buffer.from(text);
  if (bytes.length > MAX_TEXT_BYTES) throw new RangeError(`a text of ${bytes.length} bytes`);
  const message = Buffer.from([TEXT_TAG, bytes.length, ...bytes]);
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** Finds the messages of a stream, however its bytes are split. */
export class TextReader {
  private held: Buffer = Buffer.alloc(0);

  /** The texts that are complete with `chunk`. @throws Error when it is no Text as `encodeText` makes it */
  read(chunk: Buffer): string[] {
    this.held = Buffer.concat([this.held, chunk]);
    const texts: string[] = [];
    while (this.held.length >= PREFIX_BYTES) {
      const end = PREFIX_BYTES + this.held.readUInt32BE(1);
      if (this.held.length < end) break;
      texts.push(textOf(this.held.subarray(PREFIX_BYTES, end)));
      this.held = this.held.subarray(end);
    }
    return texts;
  }
}

function textOf(message: Buffer): string {
  if (message[0] !== TEXT_TAG || message[1] !== message.length - 2) throw new Error('not a message Text');
  return message.toString('utf8', 2);
}
