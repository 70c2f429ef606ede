/** Engines that speak mutual TLS, for tests. */
import type { Test } from 'tap';
import type { Credential } from '../../proxy/control/certificates.ts';
import type { SocketAddress } from '../../proxy/core/address.ts';
import type { TlsContext } from '../../proxy/native/engine.ts';
import { tlsParameters } from '../../proxy/native/tls-parameters.ts';
import { type Script, type Seen, startEngine, type TestEngine, until } from './engine.ts';
import { serverNameOf, TestPki } from './pki.ts';

/** What every test of mutual TLS begins with. */
export interface TlsRig {
  readonly test: TestEngine;
  readonly pki: TestPki;
  /** Contexts of two workloads of one root, and what they are made of. */
  readonly client: TlsContext;
  readonly server: TlsContext;
  readonly clientCredential: Credential;
  readonly serverCredential: Credential;
}

let shared: Promise<TestPki> | undefined;

/** An engine with the credentials of `client` and `server`; stopped with the test. */
export async function startTlsRig(t: Test): Promise<TlsRig> {
  shared ??= TestPki.create();
  const pki = await shared;
  const [clientCredential, serverCredential] = await Promise.all([pki.issue('client'), pki.issue('server')]);
  const test = startEngine(t);
  const client = contextOf(test, clientCredential, pki.anchors);
  const server = contextOf(test, serverCredential, pki.anchors);
  return { test, pki, client, server, clientCredential, serverCredential };
}

/** A context of a credential. */
export function contextOf(test: TestEngine, credential: Credential, anchors: string): TlsContext {
  return test.engine.makeContext(credential.certificatePem, credential.keyPem, anchors);
}

/** Accepts TLS on every connection to a new address; `script` goes on, with reading begun as soon as it is secured. */
export function listenTls(
  { test, server }: TlsRig,
  script: Script = {},
  context: TlsContext = server,
): SocketAddress {
  const address = test.listen();
  test.onAccepted = (seen) => {
    seen.script = resumed(test, script);
    test.engine.acceptTls(seen.id, context);
  };
  return address;
}

/** Connects with TLS; reading begins as soon as it is secured. */
export function connectTls(
  { test, client }: TlsRig,
  address: SocketAddress,
  script: Script = {},
  context: TlsContext = client,
): Seen {
  const parameters = tlsParameters(serverNameOf('server'), ['transport.l5d.io/v1']);
  return test.connect(address, {
    ...resumed(test, script),
    connected: (seen) => test.engine.connectTls(seen.id, context, parameters),
  });
}

function resumed(test: TestEngine, script: Script): Script {
  return {
    ...script,
    secured: (seen, report) => {
      test.engine.resume(seen.id);
      script.secured?.(seen, report);
    },
  };
}

/** Waits until the engine has nothing left, and has told so: what the end of every test must come to. */
export async function nothingLeft(test: TestEngine): Promise<void> {
  await until(() => [...test.connections.values()].every(({ gone }) => gone), 'every connection ends');
  await until(
    () => ['connections', 'relays', 'queued_bytes', 'timers'].every((name) => test.figure(name) === 0),
    'nothing is left in the engine',
  );
}
