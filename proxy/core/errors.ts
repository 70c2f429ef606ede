/** Errors a user of the command line can act on, with the exit status they end the process with. */

/** Exit statuses, as in sysexits(3) where it names one. */
export const EXIT = {
  ok: 0,
  /** Something failed at run time. */
  failure: 1,
  /** The command line or the configuration is wrong (EX_USAGE). */
  usage: 64,
  /** The machine lacks something: the native engine, a privilege, a program (EX_UNAVAILABLE). */
  unavailable: 69,
  /** A port or file is in use or cannot be opened (EX_OSERR). */
  os: 71,
} as const;

/** An error whose message is complete for its reader: printed without a stack. */
export class UserError extends Error {
  /** What the process ends with when nobody handles this. */
  readonly exitCode: number;

  constructor(message: string, exitCode: number = EXIT.failure, options?: ErrorOptions) {
    super(message, options);
    this.name = 'UserError';
    this.exitCode = exitCode;
  }
}
