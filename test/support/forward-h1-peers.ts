/** HTTP/1 on either end of the forwarder, in memory; see forward-peers.ts. */
import { passBody } from '../../proxy/forward/http1-body.ts';
import { MessageBody } from '../../proxy/http/body.ts';
import { Head } from '../../proxy/http/head.ts';
import { METHOD } from '../../proxy/http/names.ts';
import { readRequestHead } from '../../proxy/http/request.ts';
import { readResponseHead } from '../../proxy/http/response.ts';
import type { BodyWriter } from '../../proxy/model/exchange.ts';
import {
  answered,
  bodyBytes,
  type Call,
  type ClientPeer,
  checkBody,
  OWN_FIELD,
  PADDING_NAME,
  parsePath,
  type ServerPeer,
  type Service,
} from './forward-peers.ts';
import { join } from './h2.ts';

/** What both ends have in common: messages that come one after the other. */
abstract class H1Peer implements BodyWriter {
  toProxy: Uint8Array = new Uint8Array(0);
  isLost = false;
  leaves = false;
  readonly socket = 0;
  readonly framed = false;
  readonly full = false;
  protected readonly head = new Head();
  private rest: Uint8Array = new Uint8Array(0);
  private readonly body = new MessageBody();
  private inBody = false;

  receive(bytes: Uint8Array): void {
    this.rest = join(this.rest, bytes);
    for (let at = -1; at !== this.rest.length && this.rest.length > 0; ) {
      at = this.rest.length;
      this.rest = this.rest.slice(this.inBody ? this.readBody() : this.readHead());
    }
  }

  lost(): void {
    this.isLost = true;
  }

  consume(): void {}
  passed(): void {}

  abstract write(bytes: Uint8Array, from: number, to: number): void;

  end(): void {}

  protected abstract readMessage(bytes: Uint8Array): number;
  protected abstract begin(): void;
  protected abstract complete(): void;

  protected say(text: string): void {
    this.sendBytes(Buffer.from(text, 'latin1'));
  }

  /** Sends the next bytes of a body. @returns how far it has come */
  protected content(sent: number, wanted: number, length: number, chunked: boolean): number {
    const to = Math.min(length, sent + wanted);
    if (to === sent) return sent;
    if (chunked) this.say(`${(to - sent).toString(16)}\r\n`);
    this.sendBytes(bodyBytes(sent, to));
    if (chunked) this.say('\r\n');
    return to;
  }

  protected framing(length: number, chunked: boolean): string {
    return chunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${length}`;
  }

  private sendBytes(bytes: Uint8Array): void {
    if (!this.leaves) this.toProxy = join(this.toProxy, bytes);
  }

  private readHead(): number {
    const end = this.readMessage(this.rest);
    if (end < 0)
      throw new Error(`the proxy sent what cannot be read: ${Buffer.from(this.rest).toString('latin1')}`);
    if (end === 0 || (this.head.status > 0 && this.head.status < 200)) return end;
    this.begin();
    this.body.start(this.head.body, this.head.contentLength);
    this.inBody = !this.body.done;
    if (!this.inBody) this.complete();
    return end;
  }

  private readBody(): number {
    const end = passBody(this.body, this.rest, 0, this.rest.length, this);
    if (end < 0) throw new Error('the proxy sent a body that cannot be read');
    this.inBody = !this.body.done;
    if (!this.inBody) this.complete();
    return end;
  }
}

/** A client. */
export class H1ClientPeer extends H1Peer implements ClientPeer {
  readonly protocol = 'http1';
  readonly calls: Call[] = [];
  private current: Call | undefined;

  get canAsk(): boolean {
    return (
      !this.leaves &&
      (this.current === undefined || (this.current.outcome === 'answered' && this.current.sentEnd))
    );
  }

  ask(call: Call): void {
    this.calls.push(call);
    this.current = call;
    call.sentEnd = call.length === 0;
    this.say(`${call.method} ${call.path} HTTP/1.1\r\nHost: app\r\n`);
    if (call.length > 0) this.say(`${this.framing(call.length, call.hasTrailers)}\r\n`);
    if (call.padding) this.say(`${PADDING_NAME}: ${'~'.repeat(call.padding)}\r\n`);
    this.say('\r\n');
  }

  sendMore(call: Call, wanted: number, end: boolean): void {
    if (call !== this.current || call.sentEnd || call.outcome !== undefined) return;
    call.sent = this.content(call.sent, wanted, call.length, call.hasTrailers);
    if (call.sent < call.length || (call.hasTrailers && !end)) return;
    call.sentEnd = true;
    if (call.hasTrailers) this.say('0\r\nX-Sum: 1\r\n\r\n');
  }

  cancel(call: Call): void {
    if (call.outcome !== undefined) return;
    call.outcome = 'cancelled';
    this.leaves = true;
  }

  write(bytes: Uint8Array, from: number, to: number): void {
    const call = this.current!;
    if (call.status === 200) checkBody(bytes, from, to, call.got);
    call.got += to - from;
  }

  protected readMessage(bytes: Uint8Array): number {
    return readResponseHead(this.head, bytes, 0, bytes.length, METHOD.get);
  }

  protected begin(): void {
    this.current!.status = this.head.status;
  }

  protected complete(): void {
    answered(this.current!);
  }
}

/** A server. */
export class H1ServerPeer extends H1Peer implements ServerPeer {
  readonly services: Service[] = [];
  private current: Service | undefined;

  constructor() {
    super();
    this.head.keepMesh = true;
  }

  leave(): void {
    if (this.current === undefined || this.current.over) this.leaves = true;
  }

  leaveUndone(): void {
    this.leave();
  }

  limit(): void {}

  interim({ headSent }: Service): void {
    if (!headSent) this.say('HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n');
  }

  respond(service: Service, wanted: number): void {
    if (service.over || service !== this.current) return;
    const { length, hasTrailers } = service;
    if (!service.headSent) {
      service.headSent = true;
      this.say(`HTTP/1.1 200 OK\r\n${this.framing(length, hasTrailers)}\r\n\r\n`);
    } else service.sent = this.content(service.sent, wanted, length, hasTrailers);
    if (service.sent < length) return;
    service.over = true;
    if (hasTrailers) this.say('0\r\nX-Sum: 1\r\n\r\n');
  }

  fail(service: Service): void {
    if (service === this.current && !service.over) this.leaves = service.over = true;
  }

  write(bytes: Uint8Array, from: number, to: number): void {
    const service = this.current!;
    checkBody(bytes, from, to, service.got);
    service.got += to - from;
  }

  protected readMessage(bytes: Uint8Array): number {
    return readRequestHead(this.head, bytes, 0, bytes.length);
  }

  protected begin(): void {
    const { bytes, pathStart, pathEnd } = this.head;
    if (this.head.find(Buffer.from(OWN_FIELD[0])) < 0)
      throw new Error(`a request comes without ${OWN_FIELD[0]}`);
    this.current = parsePath(Buffer.from(bytes.subarray(pathStart, pathEnd)).toString('latin1'));
    const at = 4 * this.head.find(Buffer.from(PADDING_NAME));
    const padding = at < 0 ? 0 : this.head.fields[at + 3] - this.head.fields[at + 2];
    if (padding !== this.current.padding) throw new Error(`a request comes with ${padding} bytes of padding`);
    this.services.push(this.current);
  }

  protected complete(): void {
    const { id, got, requestLength } = this.current!;
    this.current!.requestDone = true;
    if (got !== requestLength) throw new Error(`request ${id} has ${got} bytes of ${requestLength}`);
  }
}
