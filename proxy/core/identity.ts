/**
 * Identities of workloads, in the two forms certificates carry: the DNS name of a service account as Linkerd writes it, and a
 * SPIFFE ID. Everything here is strict: what is not exactly one of the forms is nobody, and upper case, wildcards, trailing
 * dots, escapes and NUL bytes are never normalised away.
 */

/** A service account: what both forms name. */
export interface Account {
  readonly serviceAccount: string;
  readonly namespace: string;
  readonly trustDomain: string;
}

/** A subject alternative name as a certificate has it; any byte may be in it. */
export interface CertificateName {
  readonly type: 'dns' | 'uri' | 'other';
  readonly bytes: Uint8Array;
}

/** Who a verified certificate says its holder is. */
export interface PeerIdentity {
  /** The first name of the certificate: what logs and metrics show. */
  readonly text: string;
  readonly dnsNames: readonly string[];
  /** The SPIFFE ID, if there is one. */
  readonly spiffeId: string | undefined;
}

/** The longest DNS name (RFC 1035 section 2.3.4) and SPIFFE ID (SPIFFE-ID section 2.3), in characters. */
const MAX_DNS_NAME = 253;
const MAX_SPIFFE_ID = 2048;

const DNS_LABEL = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
const DNS_NAME = new RegExp(`^${DNS_LABEL}(?:\\.${DNS_LABEL})*$`);
const ACCOUNT_DNS = new RegExp(
  `^(${DNS_LABEL})\\.(${DNS_LABEL})\\.serviceaccount\\.identity\\.${DNS_LABEL}\\.(${DNS_LABEL}(?:\\.${DNS_LABEL})*)$`,
);
const SPIFFE_ID = /^spiffe:\/\/[a-z0-9._-]{1,255}(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._-]+)+$/;
const ACCOUNT_SPIFFE = /^spiffe:\/\/([^/]+)\/ns\/([^/]+)\/sa\/([^/]+)$/;

/** True for a SPIFFE ID with a path (a workload's, not a trust domain's). */
export function isSpiffeId(text: string): boolean {
  return text.length <= MAX_SPIFFE_ID && SPIFFE_ID.test(text);
}

/** True for a DNS name in lower case, without wildcard and trailing dot. */
export function isDnsName(text: string): boolean {
  return text.length <= MAX_DNS_NAME && DNS_NAME.test(text);
}

/** The service account an identity names; undefined for an identity of another kind. */
export function accountOf(identity: string): Account | undefined {
  const spiffe = isSpiffeId(identity) ? ACCOUNT_SPIFFE.exec(identity) : null;
  if (spiffe !== null) {
    const [, trustDomain, namespace, serviceAccount] = spiffe;
    return { serviceAccount, namespace, trustDomain };
  }
  const dns = isDnsName(identity) ? ACCOUNT_DNS.exec(identity) : null;
  if (dns === null) return undefined;
  const [, serviceAccount, namespace, trustDomain] = dns;
  return { serviceAccount, namespace, trustDomain };
}

/** The DNS form of an account. `mesh` is the label Linkerd fills with the namespace of its control plane. */
export function dnsForm(account: Account, mesh = 'linkerd'): string {
  const { serviceAccount, namespace, trustDomain } = account;
  return `${serviceAccount}.${namespace}.serviceaccount.identity.${mesh}.${trustDomain}`;
}

/** The SPIFFE form of an account. */
export function spiffeForm(account: Account): string {
  return `spiffe://${account.trustDomain}/ns/${account.namespace}/sa/${account.serviceAccount}`;
}

/** The server name (SNI) that goes with an identity by convention; undefined where there is none. */
export function serverNameOf(identity: string): string | undefined {
  if (isDnsName(identity)) return identity;
  const account = accountOf(identity);
  if (account === undefined) return undefined;
  const name = dnsForm(account);
  return isDnsName(name) ? name : undefined;
}

/** Reads the names of a verified certificate; a text says why it is refused. */
export function readPeerIdentity(names: readonly CertificateName[]): PeerIdentity | string {
  const dnsNames: string[] = [];
  const spiffeIds: string[] = [];
  let first: string | undefined;
  for (const { type, bytes } of names) {
    if (type === 'other') continue;
    // Printable ASCII: a NUL would end the name for software written in C.
    if (bytes.some((byte) => byte <= 0x20 || byte >= 0x7f)) {
      return 'a name of the certificate has a NUL, a blank or a byte that is not ASCII';
    }
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
    const valid = type === 'dns' ? isDnsName(text) : isSpiffeId(text);
    if (!valid) return `${JSON.stringify(text)} is no ${type === 'dns' ? 'DNS name' : 'SPIFFE ID'} we accept`;
    (type === 'dns' ? dnsNames : spiffeIds).push(text);
    first ??= text;
  }
  if (first === undefined) return 'the certificate has neither a DNS name nor a SPIFFE ID';
  if (spiffeIds.length > 1) return 'the certificate has more than one URI name';
  if (!agree([...dnsNames, ...spiffeIds])) return 'the names of the certificate are of different accounts';
  return { text: first, dnsNames, spiffeId: spiffeIds[0] };
}

/** Whether a peer is `expected`, which is in either form. The forms of one account are equal. */
export function sameIdentity(expected: string, peer: PeerIdentity): boolean {
  if (expected === peer.spiffeId || peer.dnsNames.includes(expected)) return true;
  const wanted = accountOf(expected);
  if (wanted === undefined) return false;
  const spiffe = expected.startsWith('spiffe:');
  // Across forms only: two DNS names that differ in the mesh's label are two identities.
  const candidates = spiffe ? peer.dnsNames : [peer.spiffeId ?? ''];
  return candidates.some((name) => {
    const account = accountOf(name);
    return account !== undefined && sameAccount(account, wanted);
  });
}

function agree(names: readonly string[]): boolean {
  const accounts = names.map(accountOf).filter((account) => account !== undefined);
  return accounts.every((account) => sameAccount(account, accounts[0]));
}

function sameAccount(one: Account, other: Account): boolean {
  return (
    one.serviceAccount === other.serviceAccount &&
    one.namespace === other.namespace &&
    one.trustDomain === other.trustDomain
  );
}
