/** The admin port as the commands see it. */
import { readFileSync } from 'node:fs';
import { type IncomingMessage, type OutgoingHttpHeaders, request } from 'node:http';
import { tokenFileCandidates } from '../admin/token.ts';
import { parseSocketAddress, type SocketAddress } from '../core/address.ts';
import { UserError } from '../core/errors.ts';
import type { OptionTable, ParsedOptions } from './command.ts';

/** A proxy on this machine that takes longer than this to answer is in trouble, in ms. */
const ANSWER_MS = 5_000;

/** Longest answer to an order, or of /ready, that is read, in bytes: reasons are a few lines. */
const ANSWER_BYTES = 65_536;

/** Longest page that is read, in bytes: far more than any has, so that only what is no proxy of ours is cut. */
const PAGE_BYTES = 16 * 1024 * 1024;

/** Options of every command that talks to a proxy which runs; see `readAdminOptions`. */
export const ADMIN_OPTIONS = {
  admin: { value: 'ADDRESS', default: '127.0.0.1:4191', help: "the proxy's admin address" },
  'token-file': {
    value: 'FILE',
    help: `where the proxy's admin token is (default: FERRULE_ADMIN_TOKEN_FILE, or where a proxy of this user
writes it)`,
  },
} as const satisfies OptionTable;

/** The proxy that the options name; undefined when they are wrong, and `mistakes` says so. */
export function readAdminOptions(
  options: ParsedOptions<typeof ADMIN_OPTIONS>,
  mistakes: string[],
): AdminClient | undefined {
  const admin = parseSocketAddress(options.text('admin')!);
  if (!admin?.port) {
    mistakes.push('--admin must be an address and port, such as 127.0.0.1:4191');
    return undefined;
  }
  const tokenFile = options.text('token-file') ?? (process.env.FERRULE_ADMIN_TOKEN_FILE || undefined);
  return new AdminClient(admin, tokenFile, process.env);
}

/** What `/ready` says. */
export interface Readiness {
  readonly ready: boolean;
  /** Why not, a sentence each. */
  readonly reasons: readonly string[];
}

/** Talks to one proxy. Every request has a connection of its own. */
export class AdminClient {
  private readonly address: SocketAddress;
  private readonly tokenFiles: readonly string[];

  /** @param tokenFile undefined: where a proxy of this user would write it */
  constructor(address: SocketAddress, tokenFile: string | undefined, env: NodeJS.ProcessEnv) {
    this.address = address;
    this.tokenFiles = tokenFile === undefined ? tokenFileCandidates(address.port, env) : [tokenFile];
  }

  /** Asks whether the proxy is ready; never rejects. */
  async readiness(): Promise<Readiness> {
    try {
      const answer = await this.send('GET', '/ready', { Accept: 'application/json' });
      const text = await readText(answer, ANSWER_BYTES);
      if (answer.statusCode === 200) return { ready: true, reasons: [] };
      return { ready: false, reasons: readReasons(text) ?? [`/ready answers ${answer.statusCode}`] };
    } catch (error) {
      return { ready: false, reasons: [reasonOf(error)] };
    }
  }

  /**
   * Registers an application that runs until `release` is called or this process ends.
   * @returns `ended` resolves when the proxy has ended or the registration was released
   * @throws UserError without a token that works, or when the proxy does not answer
   */
  async holdOpen(): Promise<{ readonly ended: Promise<void>; release(): void }> {
    const answer = await this.command('POST', '/await', 200);
    const ended = new Promise<void>((resolve) => answer.once('close', resolve));
    // A proxy that is killed resets the connection, which is as good an end as any.
    answer.on('error', () => answer.destroy());
    answer.resume();
    return { ended, release: () => void answer.destroy() };
  }

  /**
   * Orders the proxy to stop as SIGTERM would.
   * @throws UserError without a token that works, or when the proxy does not answer
   */
  async shutDown(): Promise<void> {
    await readText(await this.command('POST', '/shutdown', 202), ANSWER_BYTES);
  }

  /**
   * Reads a page that needs the token.
   * @param path with its query
   * @throws UserError without a token that works, when the proxy does not answer, or with what it says instead of 200
   */
  async page(path: string): Promise<string> {
    const answer = await this.command('GET', path, 200);
    try {
      return await readText(answer, PAGE_BYTES);
    } catch (error) {
      throw new UserError(reasonOf(error), undefined, { cause: error });
    }
  }

  /**
   * The token in force now: a restarted proxy has another.
   * @throws UserError naming the files that were tried
   */
  token(): string {
    const failures: string[] = [];
    for (const file of this.tokenFiles) {
      try {
        return readFileSync(file, 'utf8').trim();
      } catch (error) {
        failures.push(`${file} (${(error as NodeJS.ErrnoException).code})`);
      }
    }
    throw new UserError(`the admin token cannot be read: ${failures.join(', ')}`);
  }

  private async command(method: string, path: string, expected: number): Promise<IncomingMessage> {
    const headers = { Authorization: `Bearer ${this.token()}` };
    let answer: IncomingMessage;
    try {
      answer = await this.send(method, path, headers);
    } catch (error) {
      throw new UserError(reasonOf(error), undefined, { cause: error });
    }
    if (answer.statusCode === expected) return answer;
    throw new UserError(
      `the proxy answers ${answer.statusCode} to ${path}: ${(await readText(answer, ANSWER_BYTES)).trim()}`,
    );
  }

  private send(method: string, path: string, headers: OutgoingHttpHeaders): Promise<IncomingMessage> {
    const { ip, port } = this.address;
    return new Promise((resolve, reject) => {
      const sent = request({ host: ip, port, method, path, headers, agent: false }, (answer) => {
        clearTimeout(late);
        resolve(answer);
      });
      const late = setTimeout(() => {
        sent.destroy(new Error(`${this.address} does not answer within ${ANSWER_MS / 1000} s`));
      }, ANSWER_MS);
      sent.once('error', (error: NodeJS.ErrnoException) => {
        clearTimeout(late);
        reject(error.code === 'ECONNREFUSED' ? new Error(`nothing listens on ${this.address}`) : error);
      });
      sent.end();
    });
  }
}

/** @throws Error when it breaks off, does not end, or is too long */
async function readText(answer: IncomingMessage, limitBytes: number): Promise<string> {
  const late = setTimeout(() => answer.destroy(new Error('the answer does not end')), ANSWER_MS);
  try {
    let text = '';
    for await (const chunk of answer.setEncoding('utf8')) {
      text += chunk;
      if (text.length > limitBytes) throw new Error('the answer is too long');
    }
    return text;
  } finally {
    clearTimeout(late);
  }
}

/** The reasons in the JSON form of /ready; undefined when somebody else answered. */
function readReasons(text: string): readonly string[] | undefined {
  try {
    const { reasons } = JSON.parse(text) as { reasons?: unknown };
    return Array.isArray(reasons) ? reasons.map(String) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
