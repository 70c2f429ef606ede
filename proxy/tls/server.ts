/** Mutual TLS with clients: the server's role in the handshakes of one worker. */
import type { PeerIdentity } from '../core/identity.ts';
import type { Handshakes } from '../metrics/handshakes.ts';
import type { ConnectionId, Engine } from '../native/engine.ts';
import type { TlsReport } from '../native/tls-report.ts';
import type { Credentials } from './credentials.ts';
import { type HandshakeProblem, handshakeProblem, judgePeer } from './peer.ts';

/** How long a handshake may take, in ms. A client on the other side of the world needs a second; an attacker wants forever. */
const HANDSHAKE_MS = 10_000;

/** Who the client is: undefined without a certificate. Or why it is refused. */
export type ClientVerdict = { readonly identity: PeerIdentity | undefined } | { readonly problem: string };

/** Accepts handshakes. */
export class TlsServer {
  private readonly engine: Engine;
  private readonly credentials: Credentials;
  private readonly handshakes: Handshakes;

  constructor(engine: Engine, credentials: Credentials, handshakes: Handshakes) {
    this.engine = engine;
    this.credentials = credentials;
    this.handshakes = handshakes;
  }

  /** False when this proxy has no identity, so that all TLS is the application's. */
  get enabled(): boolean {
    return this.credentials.enabled;
  }

  /** Whether a client that asks for `serverName` means us and not the application. */
  isOurs(serverName: string): boolean {
    return serverName !== '' && serverName === this.credentials.serverName;
  }

  /** Starts the handshake of a client whose bytes were given back; undefined, or why it cannot start. */
  start(client: ConnectionId): string | undefined {
    const credential = this.credentials.current();
    if (credential === undefined) return this.credentials.lack;
    this.engine.acceptTls(client, credential.context);
    this.engine.deadline(client, HANDSHAKE_MS);
    return undefined;
  }

  /** Who the client of a finished handshake is. */
  judge(client: ConnectionId, report: TlsReport): ClientVerdict {
    this.engine.deadline(client, 0);
    const verdict = judgePeer(report);
    if (verdict.kind === 'refused') return { problem: this.failed(verdict.problem) };
    this.handshakes.succeeded('inbound', report.group, report.micros);
    return { identity: verdict.identity };
  }

  /** Why a handshake failed; the report is undefined when its time was up. */
  explain(report: TlsReport | undefined): string {
    return this.failed(
      report === undefined
        ? { fault: 'timeout', detail: `the client did not finish it within ${HANDSHAKE_MS} ms` }
        : handshakeProblem(report, 'client'),
    );
  }

  private failed(problem: HandshakeProblem): string {
    this.handshakes.failed('inbound', problem.fault);
    return `mutual TLS: ${problem.detail}`;
  }
}
