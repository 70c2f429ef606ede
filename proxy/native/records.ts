/** Numbers of events and operations, shared with engine.h, and the form of their records. */
import { SocketAddress } from '../core/address.ts';

/** What the engine tells. */
export const EVENT = {
  accepted: 1,
  connected: 2,
  connectFailed: 3,
  data: 4,
  end: 5,
  blocked: 6,
  drained: 7,
  closed: 8,
  deadline: 9,
  acceptPaused: 10,
  acceptResumed: 11,
  deadOperation: 12,
  secured: 13,
  tlsFailed: 14,
  passed: 15,
} as const;

/** What it is asked for. */
export const OPERATION = {
  send: 1,
  shutdown: 2,
  close: 3,
  reset: 4,
  pause: 5,
  resume: 6,
  link: 7,
  relay: 8,
  unrelay: 9,
  deadline: 10,
  count: 11,
  unread: 12,
  startTls: 13,
  pass: 14,
} as const;

/** 32-bit integers per record: its number, the connection, and two more. */
export const RECORD_INTS = 4;

/** The address in the five integers from `at` on; undefined where there is none. */
export function readAddress(events: Int32Array, at: number): SocketAddress | undefined {
  const family = events[at] >>> 16;
  if (family === 0) return undefined;
  return new SocketAddress(
    family === 4 ? 4 : 6,
    events[at + 1] >>> 0,
    events[at + 2] >>> 0,
    events[at + 3] >>> 0,
    events[at + 4] >>> 0,
    events[at] & 0xffff,
  );
}
