/** Numbers of events and operations, shared with engine.h, and the form of their records. */

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
