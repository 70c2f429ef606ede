/** A running process of the demo: what it says, when it ends, and its channel for messages. */

import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { EXIT, UserError } from '../core/errors.ts';

/** How a process ended. */
export interface Ending {
  /** Exit status; undefined when a signal ended it or it could not be started. */
  readonly status: number | undefined;
  /** One sentence and the last it said. */
  readonly reason: string;
}

/** Lines kept to explain an unexpected end. */
const TAIL_LINES = 8;

/** A started process. */
export class Program {
  readonly name: string;
  readonly pid: number | undefined;
  /** Never rejects. */
  readonly ended: Promise<Ending>;
  /** Gets every line of both streams. */
  onLine: (line: string) => void = () => undefined;
  private readonly child: ChildProcess;
  private readonly tail: string[] = [];
  private readonly waiting = new Set<{ pattern: RegExp; found: (line: string) => void }>();

  constructor(name: string, child: ChildProcess) {
    this.name = name;
    this.child = child;
    this.pid = child.pid;
    this.read(child.stdout);
    this.read(child.stderr);
    const { promise, resolve } = Promise.withResolvers<Ending>();
    this.ended = promise;
    child.once('error', (error) => resolve({ status: undefined, reason: error.message }));
    child.once('close', (status, signal) => {
      const how = signal === null ? `ended with status ${status}` : `was ended by ${signal}`;
      resolve({ status: status ?? undefined, reason: [`it ${how}`, ...this.tail].join('\n  ') });
    });
  }

  /**
   * Waits for a line.
   * @throws UserError when it ends before, or says nothing like it for `patienceMs`
   */
  async line(pattern: RegExp, patienceMs: number): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>();
    const entry = { pattern, found: resolve };
    this.waiting.add(entry);
    try {
      return await this.orEnd(promise, patienceMs);
    } finally {
      this.waiting.delete(entry);
    }
  }

  /** Sends a message; one that cannot be delivered is followed by the end of the process. */
  send(message: object): void {
    this.child.send(message, (error) => {
      if (error !== null) this.tail.push(`a message could not be sent: ${error.message}`);
    });
  }

  /** Calls `handle` with each message. */
  onMessage(handle: (message: unknown) => void): void {
    this.child.on('message', handle);
  }

  /**
   * `promise`, unless the process ends or `patienceMs` pass before.
   * @throws UserError that says so
   */
  async orEnd<T>(promise: Promise<T>, patienceMs: number): Promise<T> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      const said = this.tail.map((line) => `\n  ${line}`).join('');
      late.reject(new UserError(`${this.name} is not ready after ${patienceMs} ms${said}`, EXIT.unavailable));
    }, patienceMs);
    const ended = this.ended.then(({ reason }) => {
      throw new UserError(`${this.name}: ${reason}`, EXIT.unavailable);
    });
    try {
      return await Promise.race([promise, ended, late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  private read(stream: Readable | null): void {
    if (stream === null) return;
    createInterface({ input: stream }).on('line', (line) => {
      this.tail.push(line);
      if (this.tail.length > TAIL_LINES) this.tail.shift();
      for (const { pattern, found } of this.waiting) if (pattern.test(line)) found(line);
      this.onLine(line);
    });
  }
}
