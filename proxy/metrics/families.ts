/**
 * The table of metric families the workers write. Naming rule: Linkerd's name and labels where Linkerd has the family, so
 * that its dashboards and alerts work; otherwise the prefix `ferrule_`.
 *
 * Label values follow linkerd2-proxy: `direction` inbound|outbound; `peer` src (who connected to us) or dst (whom we dialled);
 * `tls` true|no_identity|opaque|disabled; `no_tls_reason` says why when `tls` is no_identity; `target_addr` is ip:port, its
 * parts `target_ip` and `target_port`; `srv_*` is the policy resource of an inbound port; `errno` is the symbolic name, empty for
 * a clean end. Labels that start with `dst_` come from discovery and may be on any family that lists `dst_*`.
 */

import type { Family } from './family.ts';
import { HTTP_FAMILIES } from './http-families.ts';

const TRANSPORT_LABELS = [
  'direction',
  'peer',
  'target_addr',
  'target_ip',
  'target_port',
  'tls',
  'no_tls_reason',
  'client_id',
  'server_id',
  'srv_group',
  'srv_kind',
  'srv_name',
  'srv_port',
  'dst_*',
] as const;

/** Every family a worker may open a series of. The place in this list is part of the slab's layout; see `slab.ts`. */
export const FAMILIES = [
  {
    name: 'tcp_open_total',
    type: 'counter',
    help: 'Total count of opened connections',
    labels: TRANSPORT_LABELS,
  },
  {
    name: 'tcp_open_connections',
    type: 'gauge',
    help: 'Number of currently-open connections',
    labels: TRANSPORT_LABELS,
  },
  {
    name: 'tcp_close_total',
    type: 'counter',
    help: 'Total count of closed connections',
    labels: [...TRANSPORT_LABELS, 'errno'],
  },
  {
    name: 'tcp_read_bytes_total',
    type: 'counter',
    help: 'Total count of bytes read from peers',
    labels: TRANSPORT_LABELS,
  },
  {
    name: 'tcp_write_bytes_total',
    type: 'counter',
    help: 'Total count of bytes written to peers',
    labels: TRANSPORT_LABELS,
  },
  {
    name: 'inbound_tcp_errors_total',
    type: 'counter',
    help: 'Inbound connections the proxy refused or gave up, by reason',
    labels: ['error', 'target_addr'],
  },
  {
    name: 'outbound_tcp_errors_total',
    type: 'counter',
    help: 'Outbound connections the proxy refused or gave up, by reason',
    labels: ['error', 'target_addr'],
  },
  {
    name: 'ferrule_tcp_connect_failures_total',
    type: 'counter',
    help: 'Attempts to connect to an endpoint or the application that failed, whether or not another one succeeded',
    labels: ['direction', 'target_addr', 'errno'],
  },
  {
    name: 'ferrule_tls_handshakes_total',
    type: 'counter',
    help: 'Handshakes of mutual TLS that ended, by result: ok with the group, failed with the error',
    labels: ['direction', 'result', 'group', 'error'],
  },
  {
    name: 'ferrule_tls_handshake_seconds_total',
    type: 'counter',
    help: 'Time the handshakes that succeeded took, summed',
    labels: ['direction'],
  },
  {
    name: 'ferrule_tls_alerts_total',
    type: 'counter',
    help: 'TLS connections that ended by an alert after their handshake, by who sent it and its name in RFC 8446',
    labels: ['direction', 'peer', 'sender', 'alert'],
  },
  {
    name: 'ferrule_inbound_detections_total',
    type: 'counter',
    help: 'Inbound connections of which it became known who speaks first: a client with TLS, a client without, the server',
    labels: ['first'],
  },
  {
    name: 'ferrule_inbound_detection_seconds_total',
    type: 'counter',
    help: 'Time until that was known, summed',
    labels: [],
  },
  {
    name: 'ferrule_inbound_races_total',
    type: 'counter',
    help: 'Inbound connections whose application was dialled because the client was silent',
    labels: [],
  },
  {
    name: 'ferrule_access_log_dropped_total',
    type: 'counter',
    help: 'Lines of the access log that could not be written, or were not read in time',
    labels: [],
  },
  {
    name: 'ferrule_metrics_series_overflow_total',
    type: 'counter',
    help: 'Requests for a metric series that were given the overflow series of their family',
    labels: [],
  },
  ...HTTP_FAMILIES,
] as const satisfies readonly Family[];

type Row = (typeof FAMILIES)[number];
/** Names of the counters in the table. */
export type CounterName = Extract<Row, { type: 'counter' }>['name'];
/** Names of the gauges in the table. */
export type GaugeName = Extract<Row, { type: 'gauge' }>['name'];
/** Names of the histograms in the table. */
export type HistogramName = Extract<Row, { type: 'histogram' }>['name'];
/** Names of all families in the table. */
export type FamilyName = Row['name'];

const INDEX = new Map<string, number>(FAMILIES.map((family, index) => [family.name, index]));

/** Place of a family in the table; undefined when there is no such family. */
export function familyIndex(name: string): number | undefined {
  return INDEX.get(name);
}

/** What the socket engine counts for itself. */
export interface EngineFigure {
  readonly name: string;
  readonly type: 'counter' | 'gauge';
  readonly help: string;
}

/** The engine's own figures: the n-th is slot n of the slab, written by native code, labelled with `worker`. */
export const ENGINE_FIGURES: readonly EngineFigure[] = [
  { name: 'ferrule_engine_connections', type: 'gauge', help: 'Sockets the engine holds, both sides counted' },
  { name: 'ferrule_engine_relays', type: 'gauge', help: 'Pairs of sockets relayed in native code' },
  { name: 'ferrule_engine_pipes', type: 'gauge', help: 'Kernel pipes held for splice' },
  {
    name: 'ferrule_engine_queued_bytes',
    type: 'gauge',
    help: 'Bytes read and not yet written, those in pipes left out',
  },
  {
    name: 'ferrule_engine_loop_turns_total',
    type: 'counter',
    help: 'Turns of the event loop',
  },
  { name: 'ferrule_engine_events_total', type: 'counter', help: 'Events handed to TypeScript' },
  { name: 'ferrule_engine_accepted_total', type: 'counter', help: 'Connections accepted' },
  {
    name: 'ferrule_engine_accept_paused',
    type: 'gauge',
    help: 'Listeners not accepting now, for want of file descriptors or by request',
  },
  { name: 'ferrule_engine_spliced_bytes_total', type: 'counter', help: 'Bytes moved by splice' },
  { name: 'ferrule_engine_copied_bytes_total', type: 'counter', help: 'Bytes moved by native copy' },
  { name: 'ferrule_engine_timers', type: 'gauge', help: 'Deadlines armed' },
  {
    name: 'ferrule_engine_dead_operations_total',
    type: 'counter',
    help: 'Operations on connections that had ended already',
  },
];
