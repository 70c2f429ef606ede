/**
 * Where there is room for a header right before the content that is being told: that of the DATA frame it came in, or, when it goes on from
 * an earlier read, what is free before every read. When the content goes on at once as a frame of another connection, its header is
 * put there, and it is sent from where it was received. One per thread, as frames are told one at a time.
 */
export const headerRoom: {
  bytes: Uint8Array;
  /** Behind that room, where the content begins; -1: there is none. */
  end: number;
  /** Bytes that came behind it in the same read, when its frame was cut by the end of one; else 0. */
  behind: number;
} = { bytes: new Uint8Array(0), end: -1, behind: 0 };
