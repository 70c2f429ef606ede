/** What is made of the engine's report of a handshake. */
import t, { type Test } from 'tap';
import { log } from '../../proxy/core/log.ts';
import type { TlsReport } from '../../proxy/native/tls-report.ts';
import { handshakeProblem, judgePeer } from '../../proxy/tls/peer.ts';

const NAME = 'web.shop.serviceaccount.identity.linkerd.cluster.local';

const finished: TlsReport = {
  micros: 900,
  peer: {
    names: [{ type: 'dns', bytes: Buffer.from(NAME) }],
    namesTooLong: false,
    authority: false,
    maySign: true,
  },
  verifyError: 0,
  skewSeconds: 0,
  notBefore: 0,
  notAfter: 0,
  alpn: '',
  serverName: 'api.example',
  group: 'X25519',
  cipher: 'TLS_AES_128_GCM_SHA256',
  problem: '',
};

function capture(t: Test): string[] {
  const lines: string[] = [];
  const { sink, level } = log;
  log.sink = (line) => void lines.push(line);
  t.teardown(() => {
    log.sink = sink;
    log.level = level;
  });
  return lines;
}

t.test('clocks that differ are told of, but not by every handshake', async (t) => {
  const lines = capture(t);
  const skewed = { ...finished, skewSeconds: 200, notBefore: Math.floor(Date.now() / 1000) + 200 };
  for (let i = 0; i < 300; i++) t.equal(judgePeer(skewed).kind, 'peer');
  t.match(lines[0], /clocks differ: .* was accepted seconds=200 notBefore=\S+Z now=\S+Z/);
  // Ten a second, and they may be those of two seconds.
  t.ok(lines.length <= 20, `${lines.length} lines`);
  judgePeer({ ...finished, skewSeconds: 29 });
  t.notMatch(lines.at(-1), 'seconds=29', 'half a minute is nothing');
});

t.test('debug shows what was agreed', async (t) => {
  const lines = capture(t);
  judgePeer(finished);
  t.equal(lines.length, 0);
  log.level = 'debug';
  judgePeer(finished);
  t.match(lines[0], 'TLS handshake serverName=api.example');
  t.match(lines[0], 'group=X25519 cipher=TLS_AES_128_GCM_SHA256 micros=900');
});

t.test('why handshakes failed', async (t) => {
  const failed = (problem: string, peer: 'client' | 'endpoint') =>
    handshakeProblem({ ...finished, peer: undefined, problem }, peer);
  const cases: [string, 'client' | 'endpoint', string, RegExp][] = [
    ['wrong version number', 'endpoint', 'plaintext', /^the endpoint answers in plaintext, not in TLS$/],
    ['http request', 'endpoint', 'plaintext', /answers in plaintext/],
    ['bad record type', 'endpoint', 'plaintext', /^the endpoint went on in plaintext in the middle/],
    ['wrong version number', 'client', 'plaintext', /^the client went on in plaintext in the middle/],
    ['bad record type', 'client', 'plaintext', /^the client went on in plaintext in the middle/],
    ['unsupported protocol', 'client', 'version', /^unsupported protocol$/],
    ['tlsv1 alert protocol version', 'endpoint', 'version', /alert protocol version/],
    ['the peer closed the connection', 'client', 'closed', /closed/],
    ['no shared group', 'client', 'protocol', /^no shared group$/],
  ];
  for (const [problem, peer, fault, detail] of cases) {
    t.match(failed(problem, peer), { fault, detail }, `${problem}, ${peer}`);
  }
});
