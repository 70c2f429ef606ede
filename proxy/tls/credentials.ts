/** Our own certificate as a worker uses it: replaced whole, so that connections that have the old one go on with it. */
import { log } from '../core/log.ts';
import type { OwnIdentity } from '../model/messages.ts';
import type { Engine, TlsContext } from '../native/engine.ts';

/** What a handshake needs of us. */
export interface Credential {
  readonly context: TlsContext;
  readonly serverName: string;
}

/** The newest certificate of one worker. */
export class Credentials {
  /** False when this proxy is configured to have no identity at all. */
  readonly enabled: boolean;
  private readonly engine: Engine;
  private readonly onRefused: (version: number, problem: string, untilMs: number) => void;
  private credential: Credential | undefined;
  private notAfterMs = 0;

  /** @param onRefused an identity cannot be used; the one before it goes on until then (ms since 1970), 0 when there is none */
  constructor(
    engine: Engine,
    enabled: boolean,
    onRefused: (version: number, problem: string, untilMs: number) => void,
  ) {
    this.engine = engine;
    this.enabled = enabled;
    this.onRefused = onRefused;
  }

  /**
   * Takes main's newest identity, which it has checked; handshakes from now on use it.
   * @returns false when it cannot be used, of which `onRefused` was told
   */
  apply(identity: OwnIdentity): boolean {
    const { certificatePem, keyPem, trustAnchorsPem, serverName, notAfterMs, version } = identity;
    let context: TlsContext;
    try {
      context = this.engine.makeContext(certificatePem, keyPem, trustAnchorsPem);
    } catch (error) {
      // Going on with the one we have is better than a worker that throws, and takes its connections along, again and again.
      const problem = `OpenSSL does not take it: ${(error as Error).message}`;
      log.error(`identity: ${problem}`, { version });
      this.onRefused(version, problem, this.notAfterMs);
      return false;
    }
    if (this.credential !== undefined) this.engine.dropContext(this.credential.context);
    this.credential = { context, serverName };
    this.notAfterMs = notAfterMs;
    if (log.debugEnabled) log.debug('identity', { serverName, version });
    return true;
  }

  /** What to shake hands with; undefined without a certificate that is valid now. */
  current(): Credential | undefined {
    return Date.now() < this.notAfterMs ? this.credential : undefined;
  }

  /** The SNI that means us, also while the certificate that says so is not valid; undefined before there was any. */
  get serverName(): string | undefined {
    return this.credential?.serverName;
  }

  /** Why `current` gives nothing. */
  get lack(): string {
    if (!this.enabled) return 'this proxy has no identity (identity.source: none)';
    if (this.credential === undefined) return 'this proxy has no certificate yet (see /ready)';
    return `our own certificate expired at ${new Date(this.notAfterMs).toISOString()}; it is now ${new Date().toISOString()}`;
  }
}
