/** The metric families of HTTP; see `families.ts`, which they are part of. */
import { DETECTION_SECONDS, FINE_LATENCY_SECONDS, LATENCY_MS } from './buckets.ts';
import type { Family } from './family.ts';

/**
 * Labels of linkerd2-proxy's requests. `authority` is outbound only, as there: inbound it is the client's choice and says little.
 */
const HTTP_LABELS = [
  'direction',
  'authority',
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

/** Families of requests, their connections and their detection. */
export const HTTP_FAMILIES = [
  {
    name: 'request_total',
    type: 'counter',
    help: 'Total count of HTTP requests',
    labels: HTTP_LABELS,
  },
  {
    name: 'response_total',
    type: 'counter',
    help: 'Total count of HTTP responses; without status_code when a request ended without one',
    labels: [...HTTP_LABELS, 'status_code', 'classification'],
  },
  {
    name: 'response_latency_ms',
    type: 'histogram',
    help: "Elapsed times between a request's headers being received and its response stream completing",
    labels: [...HTTP_LABELS, 'status_code'],
    buckets: LATENCY_MS,
  },
  {
    name: 'ferrule_response_latency_seconds',
    type: 'histogram',
    help: 'The same in finer buckets, for a target as a whole',
    labels: ['direction', 'target_addr'],
    buckets: FINE_LATENCY_SECONDS,
  },
  {
    name: 'inbound_http_errors_total',
    type: 'counter',
    help: 'Inbound HTTP requests that could not be processed due to a proxy error, by reason',
    labels: ['error', 'target_addr'],
  },
  {
    name: 'outbound_http_errors_total',
    type: 'counter',
    help: 'Outbound HTTP requests that could not be processed due to a proxy error, by reason',
    labels: ['error', 'target_addr'],
  },
  {
    name: 'ferrule_http2_connection_errors_total',
    type: 'counter',
    help: 'HTTP/2 connections that were given up, by error code (RFC 9113 section 7) and by who gave them up: us, or the peer',
    labels: ['direction', 'peer', 'error', 'by'],
  },
  {
    name: 'inbound_tcp_detect_http_duration_seconds',
    type: 'histogram',
    help: 'Time taken for protocol detection',
    labels: [],
    buckets: DETECTION_SECONDS,
  },
  {
    name: 'outbound_tcp_detect_http_duration_seconds',
    type: 'histogram',
    help: 'Time taken for protocol detection',
    labels: [],
    buckets: DETECTION_SECONDS,
  },
  {
    name: 'inbound_tcp_detect_http_results_total',
    type: 'counter',
    help: 'Protocol detection results',
    labels: ['result'],
  },
  {
    name: 'outbound_tcp_detect_http_results_total',
    type: 'counter',
    help: 'Protocol detection results',
    labels: ['result'],
  },
  {
    name: 'ferrule_http_waiting_requests',
    type: 'gauge',
    help: 'Requests that wait because their service has no endpoint',
    labels: [],
  },
  {
    name: 'ferrule_http_pool_connections',
    type: 'gauge',
    help: 'Connections to an endpoint or the application, idle ones and those with a request',
    labels: ['direction', 'target_addr', 'state'],
  },
  {
    name: 'ferrule_http_pool_opened_total',
    type: 'counter',
    help: 'Connections that were opened for a request',
    labels: ['direction', 'target_addr'],
  },
  {
    name: 'ferrule_http_pool_reused_total',
    type: 'counter',
    help: 'Requests that went over a connection which was there',
    labels: ['direction', 'target_addr'],
  },
  {
    name: 'ferrule_http_replays_total',
    type: 'counter',
    help: 'Requests that were sent once more, by what went wrong before',
    labels: ['direction', 'target_addr', 'reason'],
  },
] as const satisfies readonly Family[];
