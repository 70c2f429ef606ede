/** Mutual TLS towards endpoints that have an identity, and what it takes to dial one. */
import type { Handshakes } from '../metrics/handshakes.ts';
import type { EndpointTls } from '../model/endpoint.ts';
import type { EndpointSnapshot } from '../model/target.ts';
import type { ConnectionId, Engine } from '../native/engine.ts';
import { tlsParameters } from '../native/tls-parameters.ts';
import type { TlsReport } from '../native/tls-report.ts';
import type { Credentials } from './credentials.ts';
import { type HandshakeProblem, handshakeProblem, judgeServer } from './peer.ts';
import { encodeTransportHeader, TRANSPORT_ALPN } from './transport-header.ts';

const NO_HEADER = new Uint8Array(0);

/** The client's role in the handshakes of one worker. */
export class TlsClient {
  private readonly engine: Engine;
  private readonly credentials: Credentials;
  private readonly handshakes: Handshakes;

  constructor(engine: Engine, credentials: Credentials, handshakes: Handshakes) {
    this.engine = engine;
    this.credentials = credentials;
    this.handshakes = handshakes;
  }

  /** Why no handshake can start now; undefined when one can. */
  lack(): string | undefined {
    return this.credentials.current() === undefined ? this.credentials.lack : undefined;
  }

  /** Starts a handshake on a connected socket. Without a credential the socket is reset: never plaintext. */
  start(upstream: ConnectionId, tls: EndpointTls): void {
    const credential = this.credentials.current();
    if (credential === undefined) return this.engine.reset(upstream);
    this.engine.connectTls(upstream, credential.context, tls.parameters);
  }

  /** What is wrong with the peer of a finished handshake; undefined when it is who it should be. */
  judge(report: TlsReport, tls: EndpointTls): string | undefined {
    const problem = judgeServer(report, tls.identity);
    if (problem !== undefined) return this.failed(problem);
    this.handshakes.succeeded('outbound', report.group, report.micros);
    return undefined;
  }

  /** Why a handshake failed; the report is undefined when its time was up. */
  explain(report: TlsReport | undefined): string {
    return this.failed(
      report === undefined
        ? { fault: 'timeout', detail: 'the endpoint did not finish it in time' }
        : handshakeProblem(report, 'endpoint'),
    );
  }

  private failed(problem: HandshakeProblem): string {
    this.handshakes.failed('outbound', problem.fault);
    return `mutual TLS: ${problem.detail}`;
  }
}

/** What dialling an endpoint takes; undefined for one without an identity. */
export function endpointTls(endpoint: EndpointSnapshot): EndpointTls | undefined {
  const { identity, serverName, proxyPort, port } = endpoint;
  if (identity === undefined) return undefined;
  if (serverName === undefined) throw new Error(`discovery gave ${identity} without a server name`);
  const viaProxy = proxyPort !== undefined;
  return {
    identity,
    parameters: tlsParameters(serverName, viaProxy ? [TRANSPORT_ALPN] : []),
    // Without a session protocol: the bytes behind it are opaque.
    header: viaProxy ? encodeTransportHeader({ port }) : NO_HEADER,
  };
}
