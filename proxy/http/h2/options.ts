/** What a session grants its peer. */
import { DEFAULT_WINDOW_BYTES, MIN_FRAME_SIZE } from './frames.ts';

/** How large windows are, in bytes. */
export interface WindowSizes {
  /** What a stream may send before its reader has consumed any of it: at least 65,535, which clients send before they know better. */
  readonly streamWindowBytes: number;
  /** What that may grow to while the reader keeps up. */
  readonly maxStreamWindowBytes: number;
  /** What may be on its way to us on all streams together. */
  readonly connectionWindowBytes: number;
  /** When readers hold more than this, the connection's window is not filled up any more. */
  readonly maxHeldBytes: number;
}

/**
 * A window of 64 KB is enough for 650 MB/s between neighbours, whose round trip is 0.1 ms, and 1 MB for 100 MB/s across a
 * continent (10 ms). Connections to endpoints and between proxies carry the streams of many clients: however many readers stand still,
 * they must not use up the window of the others. 128 streams hold 8 MB, and 8 MB more where windows have grown; one connection takes
 * 17 MB at the most, with what is on its way.
 */
export const DEFAULT_WINDOWS: WindowSizes = {
  streamWindowBytes: DEFAULT_WINDOW_BYTES,
  maxStreamWindowBytes: 1 << 20,
  connectionWindowBytes: 1 << 20,
  maxHeldBytes: 16 << 20,
};

/** Limits of a session, and what its peer may do. */
export interface SessionOptions {
  readonly windows: WindowSizes;
  /** Streams that may be open at once: what a client is told, and what a server is asked to take at most. */
  readonly maxStreams: number;
  /** SETTINGS_MAX_FRAME_SIZE: at least 16,384. */
  readonly maxFrameBytes: number;
  /** A client may use extended CONNECT (RFC 8441). */
  readonly extendedConnect: boolean;
  /** `l5d-*` fields are taken from this peer. */
  readonly keepMesh: boolean;
}

/**
 * As many streams as most servers take (100 to 128), on either side: see DEFAULT_WINDOWS. Frames are not larger than all peers know how
 * to send.
 */
export const DEFAULT_OPTIONS: SessionOptions = {
  windows: DEFAULT_WINDOWS,
  maxStreams: 128,
  maxFrameBytes: MIN_FRAME_SIZE,
  extendedConnect: true,
  keepMesh: false,
};
