/** What both spines need from the worker they live in. */
import type { RefusalReason } from '../metrics/refusals.ts';
import type { ConnectionId } from '../native/engine.ts';
import type { ProxyConnection } from './connection.ts';

/** The worker, as the spines see it. */
export interface SpineOwner {
  /** Remembers whose socket this is; every accepted connection is adopted before anything else. */
  adopt(socket: ConnectionId, connection: ProxyConnection): void;
  /** Ends a connection with a reset, a log line and a metric. */
  refuse(connection: ProxyConnection, reason: RefusalReason, message: string): void;
}
