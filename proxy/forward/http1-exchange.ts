/** A client's HTTP/1 connection and the exchange it is at: it has one at a time, and uses it again. */
import { equalsFolded, LOWER } from '../http/bytes.ts';
import { asksForWebSocket } from '../http/h2/from-http1.ts';
import type { OwnFields } from '../http/h2/own-fields.ts';
import { webSocketKeyOf } from '../http/h2/websocket.ts';
import { BODY, type Head } from '../http/head.ts';
import { METHOD } from '../http/names.ts';
import type { HttpSeries } from '../metrics/http.ts';
import { NO_BYTES, type ProxyConnection } from '../model/connection.ts';
import { type ClientSide, Exchange } from '../model/exchange.ts';
import type { Http1Writer } from './http1-body.ts';

/**
 * What a client's connection is doing: reading a request's head, its body, or nothing until the response has gone out; `tunnel`
 * once bytes are to pass both ways untouched, if the endpoint agrees, and `talk` while they do as the content of a stream of HTTP/2;
 * `closing` when nothing more is read.
 */
export type ClientPhase = 'head' | 'body' | 'answer' | 'tunnel' | 'talk' | 'closing';

/** What a client may take its time over. */
export type RequestPart = 'head' | 'body' | 'next';

/** See above. */
export class Http1Exchange extends Exchange {
  declare readonly writer: Http1Writer;
  readonly own: OwnFields | undefined;
  phase: ClientPhase = 'head';
  /** Received bytes that nobody has used: part of a head, or what came ahead of its time. */
  held: Uint8Array = NO_BYTES;
  /** What its deadline is for. */
  due: RequestPart = 'next';
  /** Its bytes are being read just now. */
  reading = false;
  /** It is not read from, though more may come. */
  paused = false;
  /** The client has ended its side. */
  clientEnded = false;
  /** The client is linked to the endpoint: a body is on its way. */
  linked = false;

  /** Of the client: HTTP/1.`minor`. */
  minor: 0 | 1 = 1;
  /** The client keeps its connection after the response, as far as it and the request go. */
  keepAlive = true;
  /** The client is a sidecar that has yet to hear that it may come with HTTP/2. */
  announce: boolean;
  /** The client has said that the request is its last. */
  last = false;

  // --- the head, for as long as it may have to be sent again; see retained.ts
  /** Offset of the block in the slab that has the head; 0 for none. */
  blockOffset = 0;
  blockLength = 0;
  /** The head, where it does not fit into a block. */
  longHead: Uint8Array | undefined;
  /** `Engine.flushes` when it was last sent. */
  sentFlush = -1;

  /** @param own added to each of its requests */
  constructor(
    connection: ProxyConnection,
    client: ClientSide,
    writer: Http1Writer,
    own: OwnFields | undefined,
    clientSeries: HttpSeries | undefined,
  ) {
    super(connection, client, writer, clientSeries);
    this.own = own;
    this.announce = connection.direction === 'inbound' && connection.clientIdentity !== undefined;
  }

  get isHttp2(): boolean {
    return false;
  }

  /** The endpoint answers as it would any other request. */
  refuseTunnel(): void {
    this.phase = 'answer';
    this.requestBody.start(BODY.none, 0);
  }

  /** Takes what a request's head says; nothing of the exchange before is left. */
  begin(head: Head, nowMs: number): void {
    this.beginWith(head.method, true, nowMs);
    this.minor = head.minor;
    this.requestLength = head.contentLength;
    this.requestFraming = head.framing;
    this.requestBody.start(head.body, head.contentLength);
    this.last = head.close;
    this.keepAlive = !head.close;
    this.json = prefersJson(head);
    const webSocket = this.requestBody.done && asksForWebSocket(head);
    this.webSocketKey = webSocket ? webSocketKeyOf(head) : undefined;
    // Without a key there is no answer to it: let the endpoint say so.
    this.isExtendedConnect = this.webSocketKey !== undefined;
    this.isTunnel = head.method === METHOD.connect || webSocket;
    this.phase = this.isTunnel ? 'tunnel' : this.requestBody.done ? 'answer' : 'body';
    if (this.isTunnel) this.requestBody.start(BODY.untilClose, 0);
  }
}

const ACCEPT = Buffer.from('accept', 'latin1');
const JSON_TYPE = Buffer.from('application/json', 'latin1');

function prefersJson(head: Head): boolean {
  const field = head.find(ACCEPT);
  if (field < 0) return false;
  const start = head.fields[4 * field + 2];
  const end = Math.min(start + JSON_TYPE.length, head.fields[4 * field + 3]);
  return equalsFolded(head.bytes, start, end, JSON_TYPE, LOWER);
}
