/** Names of errno values, as logs and the `errno` label show them. */
import { constants } from 'node:os';

const NAMES = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));

/** `ECONNRESET` for 104; the empty text for 0, `E<number>` for one without a name. */
export function errnoName(errno: number): string {
  if (errno === 0) return '';
  return NAMES.get(errno) ?? `E${errno}`;
}

/** The errno values this code base decides on. */
export const ERRNO = {
  eacces: constants.errno.EACCES,
  eaddrinuse: constants.errno.EADDRINUSE,
  eaddrnotavail: constants.errno.EADDRNOTAVAIL,
  eafnosupport: constants.errno.EAFNOSUPPORT,
  emfile: constants.errno.EMFILE,
  enfile: constants.errno.ENFILE,
  eproto: constants.errno.EPROTO,
  etimedout: constants.errno.ETIMEDOUT,
};
