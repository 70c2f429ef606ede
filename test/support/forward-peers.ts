/** What clients and servers at both ends of the forwarder have in common, whatever they speak. */

/** A request as its client sees it. */
export interface Call {
  readonly id: number;
  readonly method: string;
  /** Says the server how long both bodies are. */
  readonly path: string;
  /** Of the request's body, in bytes. */
  readonly length: number;
  readonly hasTrailers: boolean;
  /** Of the response's body, in bytes. */
  readonly responseLength: number;
  /** Of a field that makes the head of the request longer, in bytes. */
  readonly padding?: number;
  sent: number;
  sentEnd: boolean;
  /** Bytes of the response, and those that were not consumed yet. */
  got: number;
  held: number;
  status: number;
  /** How it ended. */
  outcome: 'answered' | 'reset' | 'cancelled' | undefined;
}

/** A request as its server sees it. */
export interface Service {
  readonly id: number;
  readonly requestLength: number;
  /** Of the response's body, in bytes. */
  readonly length: number;
  readonly hasTrailers: boolean;
  /** See `Call`. */
  readonly padding: number;
  requestDone: boolean;
  got: number;
  held: number;
  headSent: boolean;
  sent: number;
  /** It is answered, or was given up. */
  over: boolean;
  /** The client is told that nothing was done for it. */
  undone: boolean;
}

/** One end of a connection. */
interface Peer {
  /** What it has sent and the proxy has not read. */
  toProxy: Uint8Array;
  /** Its connection has ended. */
  readonly isLost: boolean;
  /** It has said all it will. */
  readonly leaves: boolean;
  receive(bytes: Uint8Array): void;
  lost(): void;
}

/** A client. */
export interface ClientPeer extends Peer {
  readonly protocol: 'http1' | 'http2';
  readonly calls: Call[];
  readonly canAsk: boolean;
  ask(call: Call): void;
  /** Sends up to `wanted` bytes of the request, and its end behind the last if `end`. */
  sendMore(call: Call, wanted: number, end: boolean): void;
  cancel(call: Call): void;
  consume(call: Call): void;
}

/** A server. */
export interface ServerPeer extends Peer {
  readonly services: Service[];
  /** It wants no more requests. */
  leave(): void;
  /** Nor those from this one of its services on: it says so, and has done nothing for them. */
  leaveUndone(from: number): void;
  /** It takes so many requests at once on this connection, from now on. */
  limit(streams: number): void;
  interim(service: Service): void;
  /** Sends the head, or up to `wanted` bytes of the response. */
  respond(service: Service, wanted: number): void;
  /** Gives it up. `code`: one of H2_ERROR. */
  fail(service: Service, code: number): void;
  consume(service: Service): void;
}

/** What the proxy adds to every request. */
export const OWN_FIELD = ['l5d-client-id', 'web.test'] as const;

/** The field that makes heads longer. */
export const PADDING_NAME = 'x-padding';

/** The path of a request with such bodies. */
export function pathOf(
  id: number,
  requestLength: number,
  length: number,
  hasTrailers: boolean,
  padding = 0,
): string {
  return `/${id}/${requestLength}/${length}/${hasTrailers ? 1 : 0}/${padding}`;
}

/** The response has ended as it should: the proxy's own answers are as long as they are. */
export function answered(call: Call): void {
  const { id, status, got, responseLength } = call;
  if (status === 200 && got !== responseLength)
    throw new Error(`response ${id} has ${got} bytes of ${responseLength}`);
  call.outcome ??= 'answered';
}

/** What its server has to do. */
export function parsePath(path: string): Service {
  const [id, requestLength, length, trailers, padding] = path.slice(1).split('/').map(Number);
  const state = { requestDone: false, got: 0, held: 0, headSent: false, sent: 0, over: false, undone: false };
  return { id, requestLength, length, hasTrailers: trailers === 1, padding, ...state };
}

/** Longest bodies, in bytes: beyond what windows and queues take at once. */
export const MOST_BODY = 200_000;

/** What every body is a part of; 251 is no length that anything else has. */
const CONTENT = Uint8Array.from({ length: MOST_BODY }, (_, i) => i % 251);

/** Bytes of any body, by their places. */
export function bodyBytes(from: number, to: number): Uint8Array {
  return CONTENT.subarray(from, to);
}

/** Throws when `bytes` are not those at that place of a body. */
export function checkBody(bytes: Uint8Array, from: number, to: number, place: number): void {
  const expected = bodyBytes(place, place + to - from);
  if (Buffer.compare(bytes.subarray(from, to), expected) !== 0)
    throw new Error(`bytes from ${place} of a body are others`);
}
