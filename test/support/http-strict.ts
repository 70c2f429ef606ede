/**
 * A second reading of HTTP/1.1 requests, straight from the grammar of RFC 9112 with texts and regular expressions, slow and strict. It
 * shares nothing with the codec, so that both are wrong in the same way only when the RFC was misread twice.
 */

/** A request as far as its framing goes. */
export interface StrictRequest {
  readonly method: string;
  readonly target: string;
  /** Lower-case name and value. */
  readonly fields: readonly (readonly [string, string])[];
  readonly body: string;
  /** Offset behind the body. */
  readonly end: number;
}

const FIELD =
  /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)[ \t]*$/;
const LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e\x80-\xff]+) HTTP\/1\.([01])$/;

/** The first request in a Latin-1 text; undefined when there is no whole and right one. */
export function readStrictly(text: string): StrictRequest | undefined {
  const start = text.startsWith('\r\n') ? 2 : 0;
  const blank = text.indexOf('\r\n\r\n', start);
  if (blank < 0) return undefined;
  const [line, ...rest] = text.slice(start, blank).split('\r\n');
  const request = LINE.exec(line);
  const fields = fieldsOf(rest);
  if (request === null || fields === undefined) return undefined;
  const [, method, target, minor] = request;
  const values = (name: string) => fields.filter(([known]) => known === name).map(([, value]) => value);
  const hosts = values('host').length;
  if (hosts > 1 || (hosts === 0 && minor === '1')) return undefined;
  const lengths = values('content-length');
  const codings = values('transfer-encoding');
  const body = bodyOf(text.slice(blank + 4), lengths, codings, minor);
  if (body === undefined) return undefined;
  return { method, target, fields, body: body.data, end: blank + 4 + body.length };
}

function fieldsOf(lines: readonly string[]): (readonly [string, string])[] | undefined {
  const fields: (readonly [string, string])[] = [];
  for (const line of lines) {
    const field = FIELD.exec(line);
    if (field === null) return undefined;
    fields.push([field[1].toLowerCase(), field[2]]);
  }
  return fields;
}

/** A body and its length on the wire. */
interface StrictBody {
  readonly data: string;
  readonly length: number;
}

function bodyOf(
  text: string,
  lengths: readonly string[],
  codings: readonly string[],
  minor: string,
): StrictBody | undefined {
  if (lengths.length + codings.length > 1) return undefined;
  if (codings.length === 1) {
    return minor === '1' && codings[0].toLowerCase() === 'chunked' ? chunksOf(text) : undefined;
  }
  if (lengths.length === 0) return { data: '', length: 0 };
  if (!/^[0-9]+$/.test(lengths[0])) return undefined;
  const length = BigInt(lengths[0]);
  if (length > BigInt(text.length)) return undefined;
  return { data: text.slice(0, Number(length)), length: Number(length) };
}

function chunksOf(text: string): StrictBody | undefined {
  let data = '';
  for (let at = 0; ; ) {
    const size = /^([0-9A-Fa-f]{1,13})(;[\t\x20-\x7e\x80-\xff]*)?\r\n/.exec(text.slice(at));
    if (size === null) return undefined;
    at += size[0].length;
    const length = Number.parseInt(size[1], 16);
    if (length === 0) {
      const trailers = /^(?:[^\r\n]+\r\n)*\r\n/.exec(text.slice(at));
      const lines = trailers?.[0].split('\r\n').slice(0, -2);
      if (trailers === null || lines === undefined || fieldsOf(lines) === undefined) return undefined;
      return { data, length: at + trailers[0].length };
    }
    if (text.slice(at + length, at + length + 2) !== '\r\n') return undefined;
    data += text.slice(at, at + length);
    at += length + 2;
  }
}
