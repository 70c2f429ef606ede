/**
 * Where the header of the DATA frame is whose content is being told: when that goes on at once as a frame of another connection, its
 * header takes the place of the old one, and a long payload is sent from where it was received. One per thread, as frames are told one
 * at a time.
 */
export const headerRoom: {
  bytes: Uint8Array;
  /** Behind the header, where the content begins; -1: there is no header that nobody needs any more. */
  end: number;
} = { bytes: new Uint8Array(0), end: -1 };
