/** A stream of a client: one exchange among many on its connection. */
import { equalsFolded, LOWER, latin1 } from '../http/bytes.ts';
import { isGrpc } from '../http/grpc.ts';
import { FieldList, H2_FIELD } from '../http/h2/field.ts';
import type { H2Head } from '../http/h2/head.ts';
import { originalMinor } from '../http/h2/original-protocol.ts';
import type { Stream } from '../http/h2/stream.ts';
import { requestFraming } from '../http/h2/to-http1.ts';
import { BODY } from '../http/head.ts';
import { METHOD } from '../http/names.ts';
import type { HttpSeries } from '../metrics/http.ts';
import { NO_BYTES, type ProxyConnection } from '../model/connection.ts';
import { type ClientSide, Exchange } from '../model/exchange.ts';
import type { StreamWriter } from './http2-body.ts';

/** See above. Used again for another stream of the same connection. */
export class Http2Exchange extends Exchange {
  declare readonly writer: StreamWriter<Http2Exchange>;
  /** Undefined between streams. */
  stream: Stream<Http2Exchange> | undefined;
  /** Those of the head that do not last. */
  readonly ownFields = new FieldList();
  /** The head, as it is to be sent: `ownFields`, or one that lasts. */
  fields: FieldList = this.ownFields;
  /** The minor version of the HTTP/1 request that a peer sent this way; -1: it is none. */
  originalMinor: 0 | 1 | -1 = -1;
  /** Content that no endpoint has been given yet, and whether that is all of it. */
  held: Uint8Array = NO_BYTES;
  heldLast = false;
  heldTrailers: FieldList | undefined;
  /** Bytes that came and that the client has not been told may come again. */
  owed = 0;
  /** Its head could not be understood: the session resets its stream. */
  isUnread = false;
  /** The endpoint is done with it, and the client has yet to take the rest. */
  finishing = false;

  constructor(
    connection: ProxyConnection,
    client: ClientSide,
    writer: StreamWriter<Http2Exchange>,
    clientSeries: HttpSeries | undefined,
  ) {
    super(connection, client, writer, clientSeries);
  }

  get isHttp2(): boolean {
    return this.originalMinor < 0;
  }

  /** Content, or the end of it, waits for an endpoint. */
  get isHolding(): boolean {
    return this.held.length > 0 || this.heldLast;
  }

  /** A request begins that could not be understood. `fields`: what there is of its head. */
  beginUnread(fields: FieldList, nowMs: number): void {
    this.beginWith(METHOD.other, false, nowMs);
    this.requestBody.start(BODY.none, 0);
    this.grpc = isGrpc(fields);
    this.json = this.heldLast = this.finishing = this.isTunnel = this.isExtendedConnect = false;
    this.isUnread = true;
    this.originalMinor = -1;
    this.owed = 0;
  }

  /** A request begins; nothing of the one before is left. `fields`: what of its head goes on. `end`: it has no content. */
  begin(head: H2Head, fields: FieldList, end: boolean, nowMs: number): void {
    this.beginWith(isWebSocket(head) ? METHOD.get : head.method, true, nowMs);
    this.isTunnel = head.method === METHOD.connect;
    this.isExtendedConnect = head.protocol !== undefined;
    this.originalMinor = head.keepMesh ? originalMinor(head.fields) : -1;
    this.requestLength = head.contentLength;
    this.requestFraming = requestFraming(head.method, head.contentLength, end);
    this.requestBody.start(end ? BODY.none : BODY.untilClose, 0);
    this.grpc = this.isHttp2 && isGrpc(head.fields);
    this.json = prefersJson(head.fields);
    this.held = NO_BYTES;
    this.heldLast = this.finishing = this.isUnread = false;
    this.heldTrailers = undefined;
    this.owed = 0;
    this.fields = fields;
  }

  /** The head, to be changed. */
  changeableFields(): FieldList {
    if (this.fields !== this.ownFields) this.ownFields.take(this.fields);
    this.fields = this.ownFields;
    return this.ownFields;
  }

  /** The head will not be sent again. */
  forgetFields(): void {
    this.ownFields.clear();
    this.fields = this.ownFields;
  }
}

const WEBSOCKET = latin1('websocket');

function isWebSocket({ protocol }: H2Head): boolean {
  return protocol !== undefined && equalsFolded(protocol.value, 0, protocol.value.length, WEBSOCKET, LOWER);
}

const { accept: ACCEPT } = H2_FIELD;
const JSON_TYPE = latin1('application/json');

function prefersJson({ items, count }: FieldList): boolean {
  for (let i = 0; i < count; i++) {
    const { id, value } = items[i];
    if (id !== ACCEPT) continue;
    return equalsFolded(value, 0, Math.min(value.length, JSON_TYPE.length), JSON_TYPE, LOWER);
  }
  return false;
}
