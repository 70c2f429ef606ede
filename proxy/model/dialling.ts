/** A socket that is dialled, for whoever it is. */
import type { ConnectionId } from '../native/engine.ts';
import type { Endpoint } from './endpoint.ts';

/**
 * The upstream's side, which may be ahead of the client's: `none`, `connecting`, `securing` (in its TLS handshake), `ready` to
 * carry bytes.
 */
export type UpstreamStage = 'none' | 'connecting' | 'securing' | 'ready';

/** Why an upstream that was connected cannot be used. */
export interface UpstreamFault {
  /** For logs. */
  readonly detail: string;
  /** As if connecting had failed with it. */
  readonly errno: number;
}

/** Whose socket is dialled. */
export interface Dialling {
  /** The dialled socket; 0 while there is none. */
  upstream: ConnectionId;
  endpoint: Endpoint | undefined;
  upstreamStage: UpstreamStage;
  /** Why it cannot be used although it was connected. */
  upstreamFault: UpstreamFault | undefined;
  /** It is counted as open, so that its end is counted too. */
  established: boolean;
}
