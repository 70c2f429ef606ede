/** The demo's certificates: how they are changed, what is shown of it, and that a demo without it is no success. */

import { X509Certificate } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { WriteStream } from 'node:tty';
import t from 'tap';
import { shortcomings } from '../../proxy/demo/demo.ts';
import type { IdentityFigures } from '../../proxy/demo/golden.ts';
import { type Change, Identities } from '../../proxy/demo/identities.ts';
import { rotate } from '../../proxy/demo/rotation.ts';
import { Run } from '../../proxy/demo/run.ts';
import type { Pod } from '../../proxy/demo/services.ts';
import { View } from '../../proxy/demo/view.ts';

const ROLL_OVER = ['trustSecondRoot', 'issueFromSecondRoot', 'distrustFirstRoot'] as const;

/** Two sidecars that take up what `takesUp` allows. */
class Sidecars {
  readonly changes: Change[] = [];
  private readonly state: Record<Pod, IdentityFigures> = {
    client: initial('client'),
    server: initial('server'),
  };
  private readonly takesUp: (pod: Pod, change: Change) => boolean;

  constructor(takesUp: (pod: Pod, change: Change) => boolean = () => true) {
    this.takesUp = takesUp;
  }

  async apply(change: Change): Promise<void> {
    this.changes.push(change);
    for (const before of Object.values(this.state)) {
      if (!this.takesUp(before.pod, change)) continue;
      const trustEndsMs = change === 'distrustFirstRoot' ? 1_000 : before.trustEndsMs;
      this.state[before.pod] = { ...before, rotations: before.rotations + 1, trustEndsMs };
    }
  }

  readonly figures = async () => Object.values(this.state);
}

function initial(pod: Pod): IdentityFigures {
  return { pod, rotations: 0, certificateEndsMs: 0, trustEndsMs: 2_000 };
}

t.test('the root is rolled over step by step, then certificates are renewed until the end', async (t) => {
  const sidecars = new Sidecars();
  const end = new AbortController();
  const rolledOver: number[] = [];
  const figures = async () => {
    if (sidecars.changes.length === 6) end.abort();
    return sidecars.figures();
  };
  const parts = { identities: sidecars, figures, intervalMs: 1 };
  await rotate(parts, () => rolledOver.push(sidecars.changes.length), end.signal);
  t.strictSame(sidecars.changes, ['renew', ...ROLL_OVER, 'renew', 'renew']);
  t.strictSame(rolledOver, [4], 'told once, after the last step');
});

t.test('a run that ends at once still proves one rotation', async (t) => {
  const sidecars = new Sidecars();
  await rotate(
    { identities: sidecars, figures: sidecars.figures },
    () => t.fail('not that far'),
    AbortSignal.abort(),
  );
  t.strictSame(sidecars.changes, ['renew']);
});

t.test('a sidecar that does not take up a change is named', async (t) => {
  const never = new Sidecars((pod) => pod === 'client');
  const end = new AbortController();
  const rotating = rotate(
    { identities: never, figures: never.figures, patienceMs: 1 },
    () => t.fail('not that far'),
    end.signal,
  );
  await t.rejects(rotating, {
    message: /\(renew\) were not taken up within 1 ms by the sidecar of the server pod/,
  });
});

t.test('a sidecar that keeps trusting the first root has not taken up its removal', async (t) => {
  const sidecars = new Sidecars();
  const figures = async () => (await sidecars.figures()).map((one) => ({ ...one, trustEndsMs: 2_000 }));
  const parts = { identities: sidecars, figures, patienceMs: 1, intervalMs: 1 };
  const rotating = rotate(parts, () => t.fail('it was not'), new AbortController().signal);
  await t.rejects(rotating, { message: /\(distrustFirstRoot\) .* client pod and that of the server pod/ });
});

/** The files of a sidecar as they are now. */
function filesOf(identities: Identities, pod: Pod) {
  const { certificate, key, trustAnchors } = identities.paths[pod];
  const [leaf] = pemsOf(certificate);
  return { leaf, anchors: pemsOf(trustAnchors), key };
}

function pemsOf(path: string): X509Certificate[] {
  const text = readFileSync(path, 'utf8');
  return text
    .split(/(?<=-----END CERTIFICATE-----\n)/)
    .filter((pem) => pem.trim() !== '')
    .map((pem) => new X509Certificate(pem));
}

function trusts(anchors: readonly X509Certificate[], leaf: X509Certificate): boolean {
  return anchors.some((anchor) => leaf.checkIssued(anchor) && leaf.verify(anchor.publicKey));
}

t.test(
  'sidecars on either side of a step trust each other, and the first root is gone in the end',
  async (t) => {
    const run = new Run();
    t.teardown(() => run.remove());
    const identities = await Identities.make(run, undefined);
    const original = filesOf(identities, 'server');
    let before = original;
    for (const change of ['renew', ...ROLL_OVER] as const) {
      await identities.apply(change);
      const after = filesOf(identities, 'client');
      t.ok(trusts(after.anchors, after.leaf), `${change}: a sidecar trusts its own like`);
      t.ok(trusts(before.anchors, after.leaf), `${change}: whoever is behind trusts who is ahead`);
      t.ok(trusts(after.anchors, before.leaf), `${change}: and the other way round`);
      before = filesOf(identities, 'server');
    }
    t.notOk(trusts(before.anchors, original.leaf), 'what the first root issued is nothing any more');
    t.match(before.leaf.subjectAltName, /URI:spiffe:\/\/cluster\.local\/ns\/demo\/sa\/server/);
    t.equal(statSync(before.key).mode & 0o777, 0o600);
    t.strictSame(
      readdirSync(dirname(before.key)).sort(),
      ['ca.crt', 'tls.crt', 'tls.key'],
      'nothing half-written',
    );
  },
);

const GOOD = {
  transparent: true,
  requests: 10,
  failures: 0,
  mtlsShare: 1,
  p50Ms: 1,
  p99Ms: 2,
  certificateRotations: 1,
  rootRollovers: 0,
  services: {},
};

t.test('what is no success is said', async (t) => {
  t.strictSame(shortcomings(GOOD), []);
  t.strictSame(shortcomings({ ...GOOD, requests: 0 }), ['there was no traffic']);
  t.strictSame(shortcomings({ ...GOOD, failures: 2 }), ['2 of 10 requests failed']);
  t.match(shortcomings({ ...GOOD, mtlsShare: 0.9999 }), [/^up to 1 % of the connections .* not mutual TLS$/]);
  t.match(shortcomings({ ...GOOD, certificateRotations: 0 }), [/^no new certificate was taken up/]);
});

t.test('a terminal and a log show mutual TLS, rotations and the end of the certificates', async (t) => {
  const certificateEndsMs = new Date(2026, 0, 2, 3, 4, 5).getTime();
  const row = { cpu: 0, anonymousBytes: 0, connections: 0, errors: 0 };
  const sidecars = (['client', 'server'] as const).map((pod, index) => ({
    ...row,
    identity: { ...initial(pod), rotations: 3 + index, certificateEndsMs },
  }));
  for (const isTTY of [true, false]) {
    const written: string[] = [];
    const stream = { isTTY, columns: 0, write: (text: string) => written.push(text) };
    new View(stream as unknown as WriteStream).show({ services: [], sidecars, mtlsShare: 0.5 }, 1_000);
    const shown = written.join('');
    t.match(
      shown,
      /1 s.* mutual TLS on 50 % of the connections, certificates replaced 3\/4 times, valid until 03:04:05\n/,
    );
  }
});
