/** Dialling by itself: what cannot be made to happen with real sockets in the order that matters. */
import t from 'tap';
import { ERRNO } from '../../proxy/core/errno.ts';
import { Dialler, type UpstreamTls } from '../../proxy/forward/dial.ts';
import type { Dialling } from '../../proxy/model/dialling.ts';
import type { Endpoint } from '../../proxy/model/endpoint.ts';
import type { Engine } from '../../proxy/native/engine.ts';
import type { TlsReport } from '../../proxy/native/tls-report.ts';

t.test('a handshake that succeeds in the batch its time is up in counts as one that was late', (t) => {
  const asked: string[] = [];
  const note = (name: string) => () => void asked.push(name);
  const engine = {
    reset: note('reset'),
    deadline: note('deadline'),
    send: note('send'),
    nowMs: () => performance.now(),
  } as unknown as Engine;
  const tls = { judge: () => undefined, explain: () => 'late' } as unknown as UpstreamTls;
  const failures: number[] = [];
  const endpoint = {
    address: '192.0.2.1:443',
    tls: { header: new Uint8Array(1) },
    connectFailed: note('avoid'),
    letGo: note('let go'),
    series: { connectFailed: (errno: number) => failures.push(errno), opened: note('opened') },
  } as unknown as Endpoint;
  const dialling: Dialling = {
    upstream: 1,
    endpoint,
    upstreamStage: 'securing',
    upstreamFault: undefined,
    established: false,
  };
  const dialler = new Dialler(engine, false, tls);
  dialler.timedOut(dialling);
  t.equal(dialler.secured(dialling, { micros: 1 } as TlsReport), false, 'nothing is sent on it');
  t.match(dialler.ended(dialling, 0, true), { errno: ERRNO.etimedout, reason: 'upstream_tls' });
  t.strictSame(asked, ['reset', 'avoid', 'let go']);
  t.strictSame(failures, [ERRNO.etimedout]);
  t.end();
});
