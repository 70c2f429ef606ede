/** `ferrule explain`: what a proxy decided for a request, and why. */
import { DECISION_ID_FORM, parseDecisionId } from '../control/explanations.ts';
import { EXIT, UserError } from '../core/errors.ts';
import type { Explanation } from '../model/explanation.ts';
import { ADMIN_OPTIONS, type AdminClient, readAdminOptions } from './admin-client.ts';
import { type Command, type CommandFace, formatUsage, parseOptions, usageError } from './command.ts';
import { renderExplanation, renderLatest } from './explanation-text.ts';

const FACE = {
  name: 'explain',
  summary: 'tell what the proxy decided for an HTTP request, and why',
  positionals: '[ID]',
  description: `
Every answer that the proxy makes itself has an ID in its header l5d-proxy-decision. Without ID the latest requests
are listed, newest first, each with its ID. A worker of the proxy remembers the latest 256 that have ended, and a
thousand of those that failed or were tried again.

What endpoints are compared by: load is (requests in flight / weight + 1) x the time; the time is the Peak EWMA of the
times to the first byte of a response. Times that differ by less than twice count as alike, and then the requests in
flight decide.

Ends with status 0 when there is something to tell, with 1 when nothing is known of ID or no proxy answers.`,
  options: {
    ...ADMIN_OPTIONS,
    json: { help: 'print JSON: one object for ID, an array without it' },
  },
  examples: [
    'ferrule explain',
    'ferrule explain 0-1234',
    'ferrule explain --json | jq \'.[] | select(.outcome == "refused") | .message\'',
  ],
} as const satisfies CommandFace;

/** The command, for the registry of `ferrule.ts`. */
export const command: Command = {
  name: FACE.name,
  summary: FACE.summary,
  usage: formatUsage(FACE),
  run: (args) => runExplain(args, (text) => void process.stdout.write(text)),
};

/** @param out takes what is printed */
export async function runExplain(args: readonly string[], out: (text: string) => void): Promise<number> {
  const { client, id, json } = readOptions(args);
  const page = await readPage(client, id === undefined ? '/explain' : `/explain?id=${id}`);
  // What clients sent may be in it, and terminals act on some control characters that JSON leaves as they are.
  if (json) out(page.replaceAll(/[\x7f-\x9f]/g, (byte) => `\\u00${byte.charCodeAt(0).toString(16)}`));
  else if (id === undefined) out(renderLatest(parsed<readonly Explanation[]>(page)));
  else out(renderExplanation(parsed<Explanation>(page)));
  return EXIT.ok;
}

function readOptions(args: readonly string[]) {
  const mistakes: string[] = [];
  const options = parseOptions(FACE, args, mistakes);
  const client = readAdminOptions(options, mistakes);
  const [id, ...more] = options.positionals;
  if (id !== undefined && parseDecisionId(id) === undefined) {
    mistakes.push(`${JSON.stringify(id)} is no id: ${DECISION_ID_FORM}`);
  }
  if (more.length > 0) mistakes.push(`one id at a time, and there is also ${more.join(' ')}`);
  if (mistakes.length > 0 || client === undefined) throw usageError(FACE.name, mistakes);
  return { client, id, json: options.flag('json') };
}

async function readPage(client: AdminClient, path: string): Promise<string> {
  let hint = '; is the proxy running? Call this as its user or as root, or give --token-file';
  try {
    client.token();
    hint = '';
    return await client.page(path);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(`ferrule explain: ${error.message}${hint}`, EXIT.failure, { cause: error });
  }
}

function parsed<T>(page: string): T {
  try {
    return JSON.parse(page) as T;
  } catch (error) {
    throw new UserError('ferrule explain: what answers there is no proxy of ours', EXIT.failure, {
      cause: error,
    });
  }
}
