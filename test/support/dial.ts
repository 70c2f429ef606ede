/**
 * A program for tests: dials addresses, as another user if asked, and prints what each one answered as a JSON list of
 * `DialAnswer`. Argument: one JSON `DialRequest`.
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
  /** What to send at once; nothing by default. */
  readonly say?: string;
  /** The first bytes are answer enough; by default it waits for the end. */
  readonly firstBytes?: boolean;
}

/** What came of one target. */
export interface DialAnswer {
  /** The banner, an error code, or `timeout`. */
  readonly text: string;
  /** Since it began to dial, in ms. */
  readonly ms: number;
}

/** On one machine everything answers at once; a dropped packet never does. */
const TIMEOUT_MS = 5000;

if (import.meta.main) {
  const request: DialRequest = JSON.parse(process.argv[2]);
  if (request.gid !== undefined) process.setgid!(request.gid);
  if (request.uid !== undefined) process.setuid!(request.uid);
  const answers = await Promise.all(request.targets.map((target) => dial(target, request)));
  process.stdout.write(JSON.stringify(answers));
}

function dial(target: string, { from, say, firstBytes }: DialRequest): Promise<DialAnswer> {
  const colon = target.lastIndexOf(':');
  const host = target.slice(0, colon).replace(/^\[|\]$/g, '');
  const source = from === undefined ? {} : { localAddress: from };
  const since = performance.now();
  const socket = connect({ host, port: Number(target.slice(colon + 1)), ...source });
  let banner = '';
  return new Promise((resolve) => {
    const finish = (text: string) => {
      socket.destroy();
      resolve({ text, ms: performance.now() - since });
    };
    if (say !== undefined) socket.write(say);
    socket.setEncoding('latin1').setTimeout(TIMEOUT_MS, () => finish('timeout'));
    socket.on('data', (text) => {
      banner += text;
      if (firstBytes) finish(banner);
    });
    socket.once('end', () => finish(banner));
    socket.once('error', (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
  });
}
