/**
 * A program for tests: dials addresses, as another user if asked, and prints what each one answered as a JSON list:
 * the banner, an error code, or `timeout`. Argument: one JSON `DialRequest`.
 */

import { connect } from 'node:net';

/** What to dial and as whom. The user changes after Node has started: it may not be allowed to read Node itself. */
export interface DialRequest {
  readonly uid?: number;
  readonly gid?: number;
  /** Source address to dial from. */
  readonly from?: string;
  /** `1.2.3.4:80` or `[::1]:80`. */
  readonly targets: readonly string[];
}

/** On one machine everything answers at once; a dropped packet never does. */
const TIMEOUT_MS = 5000;

if (import.meta.main) {
  const { uid, gid, from, targets }: DialRequest = JSON.parse(process.argv[2]);
  if (gid !== undefined) process.setgid!(gid);
  if (uid !== undefined) process.setuid!(uid);
  const answers = await Promise.all(targets.map((target) => dial(target, from)));
  process.stdout.write(JSON.stringify(answers));
}

function dial(target: string, from: string | undefined): Promise<string> {
  const colon = target.lastIndexOf(':');
  const host = target.slice(0, colon).replace(/^\[|\]$/g, '');
  const source = from === undefined ? {} : { localAddress: from };
  const socket = connect({ host, port: Number(target.slice(colon + 1)), ...source });
  let banner = '';
  return new Promise((resolve) => {
    const finish = (answer: string) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setEncoding('utf8').setTimeout(TIMEOUT_MS, () => finish('timeout'));
    socket.on('data', (text) => {
      banner += text;
    });
    socket.once('end', () => finish(banner));
    socket.once('error', (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
  });
}
