/** Every peer and every scenario, in the order of the report. A new one is a file and a line here. */

import type { Peer, Scenario } from './harness/model.ts';
import { peer as direct } from './peers/direct.ts';
import { peer as ferrule } from './peers/ferrule.ts';
import { peer as ferruleRoundRobin } from './peers/ferrule-round-robin.ts';
import { peer as haproxyH2 } from './peers/haproxy-h2.ts';
import { peer as haproxyH264k } from './peers/haproxy-h2-64k.ts';
import { peer as haproxyHttp } from './peers/haproxy-http.ts';
import { peer as haproxyHttp64k } from './peers/haproxy-http-64k.ts';
import { peer as haproxyHttpSplice } from './peers/haproxy-http-splice.ts';
import { peer as haproxyLeastconn } from './peers/haproxy-leastconn.ts';
import { peer as haproxySpliceAuto } from './peers/haproxy-splice-auto.ts';
import { peer as haproxySpliceFull } from './peers/haproxy-splice-full.ts';
import { peer as haproxySpliceLarge } from './peers/haproxy-splice-large.ts';
import { peer as haproxyTls16k } from './peers/haproxy-tls-16k.ts';
import { peer as haproxyTls64k } from './peers/haproxy-tls-64k.ts';
import { peer as haproxyTls256k } from './peers/haproxy-tls-256k.ts';
import { peer as minimalNode } from './peers/minimal-node.ts';
import { peer as minimalNodeMlkem } from './peers/minimal-node-mlkem.ts';
import { peer as minimalSystem } from './peers/minimal-system.ts';
import { peer as nghttpx } from './peers/nghttpx.ts';
import { peer as nginxGrpc } from './peers/nginx-grpc.ts';
import { peer as nginxHttp } from './peers/nginx-http.ts';
import { peer as nginxStream } from './peers/nginx-stream.ts';
import { peer as nodeUndici } from './peers/node-undici.ts';
import { scenario as h2Download } from './scenarios/h2-download.ts';
import { scenario as h2Flood } from './scenarios/h2-flood.ts';
import { scenario as h2Latency } from './scenarios/h2-latency.ts';
import { scenario as h2Multiplexed } from './scenarios/h2-multiplexed.ts';
import { scenario as h2Single } from './scenarios/h2-single.ts';
import { scenario as h2Stream } from './scenarios/h2-stream.ts';
import { scenario as httpBalance } from './scenarios/http-balance.ts';
import { scenario as httpConnect } from './scenarios/http-connect.ts';
import { scenario as httpLatency } from './scenarios/http-latency.ts';
import { scenario as httpRequest } from './scenarios/http-request.ts';
import { scenario as mtlsBulk } from './scenarios/mtls-bulk.ts';
import { scenario as mtlsH2Multiplexed } from './scenarios/mtls-h2-multiplexed.ts';
import { scenario as mtlsH2Single } from './scenarios/mtls-h2-single.ts';
import { scenario as mtlsHandshake } from './scenarios/mtls-handshake.ts';
import { scenario as mtlsHttp } from './scenarios/mtls-http.ts';
import { scenario as mtlsHttpMultiplexed } from './scenarios/mtls-http-multiplexed.ts';
import { scenario as mtlsIdle } from './scenarios/mtls-idle.ts';
import { scenario as mtlsRequest } from './scenarios/mtls-request.ts';
import { scenario as start } from './scenarios/start.ts';
import { scenario as tcpBulk } from './scenarios/tcp-bulk.ts';
import { scenario as tcpConnect } from './scenarios/tcp-connect.ts';
import { scenario as tcpIdle } from './scenarios/tcp-idle.ts';
import { scenario as tcpLatency } from './scenarios/tcp-latency.ts';
import { scenario as tcpRequest } from './scenarios/tcp-request.ts';

export const PEERS: readonly Peer[] = [
  ferrule,
  haproxySpliceAuto,
  haproxySpliceFull,
  haproxySpliceLarge,
  haproxyTls16k,
  haproxyTls64k,
  haproxyTls256k,
  nginxStream,
  haproxyHttp,
  haproxyHttp64k,
  haproxyHttpSplice,
  haproxyLeastconn,
  nginxHttp,
  nodeUndici,
  haproxyH2,
  haproxyH264k,
  nghttpx,
  nginxGrpc,
  ferruleRoundRobin,
  minimalSystem,
  minimalNode,
  minimalNodeMlkem,
  direct,
];

export const SCENARIOS: readonly Scenario[] = [
  tcpBulk,
  tcpRequest,
  tcpConnect,
  tcpLatency,
  tcpIdle,
  mtlsBulk,
  mtlsRequest,
  mtlsHandshake,
  mtlsIdle,
  httpRequest,
  httpConnect,
  httpLatency,
  httpBalance,
  mtlsHttp,
  h2Multiplexed,
  h2Single,
  h2Latency,
  h2Stream,
  h2Download,
  h2Flood,
  mtlsH2Multiplexed,
  mtlsH2Single,
  mtlsHttpMultiplexed,
  start,
];
