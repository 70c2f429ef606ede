import fc from 'fast-check';
import t from 'tap';
import { readSamples, sum } from '../../proxy/demo/exposition.ts';
import { certificateRotations, identityFigures, mtlsShare, rootRollovers } from '../../proxy/demo/golden.ts';
import { encodeText, TextReader } from '../../proxy/demo/grpc.ts';
import { Latencies } from '../../proxy/demo/latencies.ts';
import { quantileMs, readResponses } from '../../proxy/demo/responses.ts';
import { resourcesOf, serviceKey } from '../../proxy/demo/services.ts';
import { loadResources } from '../../proxy/resources/load.ts';

t.test('quantiles are those of the sorted latencies, at most 2 % above', async (t) => {
  const latency = fc.double({ min: 0.001, max: 50_000, noNaN: true });
  const share = fc.double({ min: 0.01, max: 1, noNaN: true });
  const property = fc.property(fc.array(latency, { minLength: 1, maxLength: 200 }), share, (given, q) => {
    const latencies = new Latencies();
    for (const ms of given) latencies.record(ms);
    const exact = given.toSorted((a, b) => a - b)[Math.ceil(q * given.length) - 1];
    const found = latencies.quantile(q);
    // Floating point may put a latency at a bucket's edge into its neighbour.
    return found >= exact * 0.999 && found <= exact * 1.021;
  });
  t.doesNotThrow(() => fc.assert(property, { seed: 20_261_121, numRuns: 500 }));
});

t.test('no latencies, impossible ones, and a new beginning', async (t) => {
  const latencies = new Latencies();
  t.equal(latencies.quantile(0.99), 0);
  latencies.record(0);
  t.ok(latencies.quantile(1) > 0 && latencies.quantile(1) < 0.002);
  latencies.record(1e9);
  t.ok(latencies.quantile(1) > 50_000, 'counted, not lost');
  latencies.clear();
  t.equal(latencies.count, 0);
  t.equal(latencies.quantile(0.5), 0);
});

const METRICS = `# HELP tcp_open_total Total count of opened connections
# TYPE tcp_open_total counter
tcp_open_total{direction="inbound",peer="src",tls="true",target_addr="a\\"b"} 3
tcp_open_total{direction="inbound",peer="src",tls="disabled"} 1
tcp_open_total{direction="inbound",peer="dst",tls="true"} 100
tcp_open_total{direction="outbound",peer="src",tls="true"} 100
process_cpu_seconds_total 1.5
`;

t.test('figures out of metrics', async (t) => {
  const samples = readSamples(METRICS);
  t.equal(samples.length, 5);
  t.equal(samples[0].labels.target_addr, 'a\\"b', 'an escaped quote does not end a label');
  t.equal(sum(samples, 'tcp_open_total', { direction: 'inbound' }), 104);
  t.equal(sum(samples, 'process_cpu_seconds_total'), 1.5);
  t.equal(sum(samples, 'process_cpu_seconds_total', { worker: '0' }), 0);
  t.equal(mtlsShare({ client: [], server: samples }), 0.75, 'of what the server takes from the wire');
  t.equal(mtlsShare({ client: [], server: [] }), 0);
});

t.test('one connection that is not mutual TLS is seen from either end', async (t) => {
  const opened = (direction: string, peer: string, tls: string) =>
    readSamples(`tcp_open_total{direction="${direction}",peer="${peer}",tls="${tls}"} 1`);
  const dialled = opened('outbound', 'dst', 'true');
  const taken = opened('inbound', 'src', 'true');
  t.equal(mtlsShare({ client: dialled, server: taken }), 1);
  // Refused by the server's sidecar, it would be on the client's side only.
  const plain = [...dialled, ...opened('outbound', 'dst', 'no_identity')];
  t.equal(mtlsShare({ client: plain, server: taken }), 2 / 3);
  t.equal(
    mtlsShare({ client: dialled, server: [...taken, ...opened('inbound', 'src', 'no_identity')] }),
    2 / 3,
  );
  const elsewhere = [...opened('outbound', 'src', 'disabled'), ...opened('inbound', 'dst', 'disabled')];
  t.equal(
    mtlsShare({ client: [...dialled, ...elsewhere], server: [...taken, ...elsewhere] }),
    1,
    'applications are no sidecars',
  );
});

/** What the client's sidecar says of two endpoints, of which one has failed some calls, and of others. */
const RESPONSES = `response_total{direction="outbound",target_addr="a:1",status_code="200",grpc_status="0",classification="success"} 30
response_total{direction="outbound",target_addr="b:1",status_code="200",grpc_status="0",classification="success"} 5
response_total{direction="outbound",target_addr="b:1",status_code="200",grpc_status="14",classification="failure"} 4
response_total{direction="outbound",target_addr="b:1",classification="failure"} 1
response_total{direction="inbound",target_addr="a:1",status_code="200",classification="success"} 7
response_total{direction="outbound",target_addr="c:1",status_code="200",classification="success"} 7
ferrule_response_latency_seconds_bucket{direction="outbound",target_addr="a:1",le="0.001"} 0
ferrule_response_latency_seconds_bucket{direction="outbound",target_addr="a:1",le="0.002"} 10
ferrule_response_latency_seconds_bucket{direction="outbound",target_addr="a:1",le="+Inf"} 30
ferrule_response_latency_seconds_bucket{direction="outbound",target_addr="b:1",le="0.001"} 0
ferrule_response_latency_seconds_bucket{direction="outbound",target_addr="b:1",le="0.002"} 10
ferrule_response_latency_seconds_bucket{direction="outbound",target_addr="b:1",le="+Inf"} 10
`;

t.test("what a sidecar counts of one service's requests", async (t) => {
  const none = readResponses([], ['a:1', 'b:1']);
  t.match(none, { requests: 0, failures: 0, endpoints: [0, 0], statuses: {} });
  t.equal(quantileMs(none, none, 0.5), 0);
  const all = readResponses(readSamples(RESPONSES), ['b:1', 'a:1']);
  t.match(all, { requests: 40, failures: 5, endpoints: [10, 30] }, 'in the order asked for');
  t.strictSame(all.statuses, { grpc: { 0: 35, 14: 4 }, http: { none: 1 } });
  t.equal(quantileMs(none, all, 0.25), 1.5, 'half of the bucket from 1 to 2 ms is a quarter of all');
  t.equal(quantileMs(none, all, 0.99), 2, 'the last bucket has no upper bound to go by');
  const one = readResponses(readSamples(RESPONSES), ['b:1']);
  t.equal(quantileMs(one, all, 0.25), 1.75, 'of the other ones alone');
});

t.test('gRPC messages are found however their bytes are split', async (t) => {
  const text = fc.string({ unit: 'grapheme', maxLength: 30 }).filter((one) => Buffer.byteLength(one) <= 127);
  const texts = fc.array(text, { maxLength: 5 });
  const property = fc.property(texts, fc.array(fc.nat(20), { maxLength: 40 }), (given, sizes) => {
    const bytes = Buffer.concat(given.map(encodeText));
    const reader = new TextReader();
    const found: string[] = [];
    let at = 0;
    for (const size of [...sizes, bytes.length]) {
      found.push(...reader.read(bytes.subarray(at, at + size)));
      at += size;
    }
    t.strictSame(found, given);
  });
  fc.assert(property, { seed: 20_261_121, numRuns: 200 });
  t.strictSame(
    [...encodeText('hi')],
    [0, 0, 0, 0, 4, 0x0a, 2, 0x68, 0x69],
    'as other gRPC stacks write Text { text: "hi" }',
  );
  t.throws(() => encodeText('x'.repeat(128)), RangeError);
  t.throws(() => new TextReader().read(Buffer.from([0, 0, 0, 0, 2, 0x12, 0])), /not a message Text/);
});

/** What a sidecar says after `refreshes` certificates, with trust until `trustEnds` (s). */
function identityMetrics(refreshes: number, trustEnds: number) {
  return readSamples(`control_identity_cert_refreshes_total{result="ok"} ${refreshes}
control_identity_cert_refreshes_total{result="error"} 7
control_identity_cert_expiration_timestamp_seconds{identity="spiffe://a"} 1000
ferrule_identity_trust_anchor_expiration_timestamp_seconds{identity="spiffe://a"} ${trustEnds}
`);
}

t.test('rotations are those that every sidecar made', async (t) => {
  const first = { client: identityMetrics(1, 5000), server: identityMetrics(1, 5000) };
  t.strictSame(identityFigures(first)[1], {
    pod: 'server',
    rotations: 0,
    certificateEndsMs: 1_000_000,
    trustEndsMs: 5_000_000,
  });
  t.equal(certificateRotations(first), 0, 'the first certificate replaced none');
  const half = { client: identityMetrics(4, 4000), server: identityMetrics(2, 5000) };
  t.equal(certificateRotations(half), 1);
  t.equal(rootRollovers(first, half), 0, 'the server trusts both');
  const both = { client: identityMetrics(4, 4000), server: identityMetrics(4, 4000) };
  t.equal(rootRollovers(first, both), 1);
  const silent = { client: [], server: [] };
  t.equal(certificateRotations(silent), 0);
  t.equal(rootRollovers(first, silent), 0, 'a sidecar without an identity replaced nothing');
});

t.test('resources load without a complaint', async (t) => {
  const service = {
    name: 'web',
    protocol: 'http',
    virtual: { ip: '10.96.0.11', port: 80 },
    endpoints: [
      { ip: '10.77.0.2', port: 8080 },
      { ip: '10.77.0.3', port: 8081 },
    ],
  } as const;
  const loaded = await loadResources(resourcesOf(service), 'web.yaml');
  t.strictSame(loaded.mistakes, []);
  t.strictSame(loaded.warnings, []);
  t.equal(loaded.resources.length, 3);
  for (const resource of loaded.resources) {
    if (resource.kind !== 'EndpointSlice') continue;
    t.match(resource, { mesh: { identity: 'spiffe://cluster.local/ns/demo/sa/server' } }, 'never plaintext');
  }
  t.equal(serviceKey(service), 'web.demo:80');
});
