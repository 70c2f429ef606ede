/** Identities: what is one, who is the same, and which certificates are nobody's. */
import fc from 'fast-check';
import t from 'tap';
import {
  type Account,
  accountOf,
  type CertificateName,
  dnsForm,
  isDnsName,
  isSpiffeId,
  type PeerIdentity,
  readPeerIdentity,
  sameIdentity,
  serverNameOf,
  spiffeForm,
} from '../../proxy/core/identity.ts';

const RUNS = { seed: 20_261_121, numRuns: process.env.FERRULE_SOAK === '1' ? 20_000 : 500 };
const DNS = 'web.shop.serviceaccount.identity.linkerd.cluster.local';
const SPIFFE = 'spiffe://cluster.local/ns/shop/sa/web';

const dns = (text: string): CertificateName => ({ type: 'dns', bytes: Buffer.from(text, 'latin1') });
const uri = (text: string): CertificateName => ({ type: 'uri', bytes: Buffer.from(text, 'latin1') });

function peer(...names: CertificateName[]): PeerIdentity {
  const read = readPeerIdentity(names);
  if (typeof read === 'string') throw new Error(read);
  return read;
}

/** Few of each, so that two accounts are often the same and often differ in one part. */
const account: fc.Arbitrary<Account> = fc.record({
  serviceAccount: fc.constantFrom('web', 'a', 'web-1'),
  namespace: fc.constantFrom('shop', 'a', 'serviceaccount'),
  trustDomain: fc.constantFrom('cluster.local', 'local', 'linkerd.cluster.local', 'identity.a'),
});

t.test('SPIFFE IDs', async (t) => {
  const trustDomain = 'd'.repeat(255);
  const longest = `spiffe://a/${'p'.repeat(2048 - 'spiffe://a/'.length)}`;
  for (const text of [
    SPIFFE,
    'spiffe://a/b',
    'spiffe://a_b.c-d/X.y_Z-1/...',
    `spiffe://${trustDomain}/a`,
    longest,
  ]) {
    t.ok(isSpiffeId(text), text.slice(0, 60));
  }
  const no = [
    '',
    'spiffe://',
    'spiffe://a',
    'spiffe://a/',
    'spiffe:///a',
    'spiffe://a//b',
    'spiffe://a/b/',
    'spiffe://a/./b',
    'spiffe://a/..',
    'spiffe://a/b/../c',
    'SPIFFE://a/b',
    'Spiffe://a/b',
    'spiffe:/a/b',
    'spiffe://A/b',
    'spiffe://a:80/b',
    'spiffe://u@a/b',
    'spiffe://a/b?c',
    'spiffe://a/b#c',
    'spiffe://a/%62',
    'spiffe://a/b c',
    'spiffe://a/b\n',
    'spiffe://a/b\0',
    'spiffe://a/é',
    ' spiffe://a/b',
    'https://a/b',
    `spiffe://${trustDomain}d/a`,
    `${longest}p`,
  ];
  for (const text of no) t.notOk(isSpiffeId(text), JSON.stringify(text).slice(0, 60));
});

t.test('DNS names', async (t) => {
  const label = 'l'.repeat(63);
  const longest = `${label}.${label}.${label}.${'l'.repeat(61)}`;
  for (const text of [DNS, 'a', '1.2', 'a-b.c--d', longest]) t.ok(isDnsName(text), text.slice(0, 60));
  const no = [
    '',
    '.',
    'a.',
    '.a',
    'a..b',
    'A.b',
    '*.b',
    '*',
    '-a',
    'a-',
    'a_b',
    'a b',
    'a\0b',
    'a\n',
    'é.b',
    'K.b',
  ];
  for (const text of [...no, `${label}l.a`, `${longest}l`])
    t.notOk(isDnsName(text), JSON.stringify(text).slice(0, 60));
});

t.test('accounts and server names', async (t) => {
  const web = { serviceAccount: 'web', namespace: 'shop', trustDomain: 'cluster.local' };
  t.strictSame(accountOf(DNS), web);
  t.strictSame(accountOf(SPIFFE), web);
  t.equal(dnsForm(web), DNS);
  t.equal(dnsForm(web, 'mesh'), 'web.shop.serviceaccount.identity.mesh.cluster.local');
  t.equal(spiffeForm(web), SPIFFE);
  t.equal(serverNameOf(SPIFFE), DNS);
  t.equal(serverNameOf('db.example'), 'db.example');
  t.equal(serverNameOf('spiffe://cluster.local/vm/7'), undefined);
  t.equal(serverNameOf('spiffe://cluster.local/ns/shop/sa/Web'), undefined, 'a DNS name has no upper case');
  const none = [
    'db.example',
    'spiffe://cluster.local/ns/shop/sa/web/more',
    'spiffe://cluster.local/NS/shop/sa/web',
    'spiffe://cluster.local/ns/shop/sa',
    'web.shop.serviceaccount.identity.linkerd',
    'more.web.shop.serviceaccount.identity.linkerd.cluster.local',
    `${DNS}.`,
    DNS.toUpperCase(),
  ];
  for (const text of none) t.equal(accountOf(text), undefined, text);
});

t.test('the forms of an account are equal, and of no other', async (t) => {
  fc.assert(
    fc.property(account, account, (one, other) => {
      const same = JSON.stringify(one) === JSON.stringify(other);
      const peers = [
        peer(dns(dnsForm(one))),
        peer(uri(spiffeForm(one))),
        peer(dns(dnsForm(one)), uri(spiffeForm(one))),
      ];
      return peers.every((it) =>
        [dnsForm(other), spiffeForm(other)].every((name) => sameIdentity(name, it) === same),
      );
    }),
    RUNS,
  );
  fc.assert(
    fc.property(account, (it) => {
      const forms = [accountOf(dnsForm(it)), accountOf(spiffeForm(it))];
      return forms.every((form) => JSON.stringify(form) === JSON.stringify(accountOf(spiffeForm(it))));
    }),
    RUNS,
  );
  t.pass('whatever the parts are called');
});

t.test('who is the same', async (t) => {
  t.ok(sameIdentity('db.example', peer(dns('other.example'), dns('db.example'))), 'any DNS name');
  t.ok(sameIdentity('spiffe://a/vm/7', peer(uri('spiffe://a/vm/7'))));
  t.notOk(sameIdentity('DB.example', peer(dns('db.example'))), 'case is not folded');
  t.notOk(sameIdentity('db.example.', peer(dns('db.example'))));
  t.notOk(sameIdentity('', peer(dns('db.example'))));
  t.notOk(sameIdentity('undefined', peer(dns('db.example'))));
  t.notOk(sameIdentity('example', peer(dns('db.example'))));
  t.notOk(sameIdentity('spiffe://a/vm/7', peer(uri('spiffe://a/vm/77'))));
  t.notOk(sameIdentity(`${SPIFFE}/x`, peer(dns(DNS), uri(SPIFFE))));
  t.notOk(sameIdentity(SPIFFE.replace('web', 'Web'), peer(dns(DNS))));
  const otherMesh = dnsForm(
    { serviceAccount: 'web', namespace: 'shop', trustDomain: 'cluster.local' },
    'mesh',
  );
  t.notOk(sameIdentity(DNS, peer(dns(otherMesh))), 'the label of the mesh is a part of a DNS name');
});

t.test('names of a certificate', async (t) => {
  t.strictSame(readPeerIdentity([dns(DNS), uri(SPIFFE)]), { text: DNS, dnsNames: [DNS], spiffeId: SPIFFE });
  t.strictSame(readPeerIdentity([dns('db.example')]), {
    text: 'db.example',
    dnsNames: ['db.example'],
    spiffeId: undefined,
  });
  const address: CertificateName = { type: 'other', bytes: Uint8Array.of(127, 0, 0, 1) };
  t.match(
    readPeerIdentity([address, uri(SPIFFE)]),
    { text: SPIFFE, dnsNames: [] },
    'other types do not count',
  );
  const refused: [string, RegExp, CertificateName[]][] = [
    ['no names', /neither/, []],
    ['an address only', /neither/, [address]],
    ['two SPIFFE IDs', /more than one URI/, [uri('spiffe://a/b'), uri('spiffe://a/c')]],
    ['one SPIFFE ID twice', /more than one URI/, [uri(SPIFFE), uri(SPIFFE)]],
    ['a URI of another scheme', /no SPIFFE ID/, [uri('https://a/b')]],
    ['… beside a good one', /no SPIFFE ID/, [uri(SPIFFE), uri('https://a/b')]],
    ['a NUL in a DNS name', /NUL/, [dns(`${DNS}\0.evil.example`)]],
    ['a NUL in a URI', /NUL/, [uri(`${SPIFFE}\0/evil`)]],
    ['a byte that is not ASCII', /ASCII/, [dns('w\xe9b.example')]],
    ['a blank', /blank/, [dns('web .example')]],
    ['a wildcard', /no DNS name/, [dns('*.shop.example')]],
    ['upper case', /no DNS name/, [dns('Web.example')]],
    ['a trailing dot', /no DNS name/, [dns('web.example.')]],
    ['an empty name', /no DNS name/, [dns('')]],
    ['an escape', /no SPIFFE ID/, [uri('spiffe://a/%62')]],
    ['two accounts', /different accounts/, [dns(DNS), uri(SPIFFE.replace('web', 'cart'))]],
    ['a bad name behind a good one', /no DNS name/, [dns(DNS), dns('*')]],
  ];
  for (const [what, why, names] of refused) t.match(readPeerIdentity(names), why, what);
});

t.test('whatever a certificate says, an answer', async (t) => {
  const type = fc.constantFrom('dns' as const, 'uri' as const, 'other' as const);
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc.constantFrom(DNS, SPIFFE, 'spiffe://', '*').map((text) => new Uint8Array(Buffer.from(text))),
  );
  fc.assert(
    fc.property(fc.array(fc.record({ type, bytes }), { maxLength: 4 }), (names) => {
      const read = readPeerIdentity(names);
      return typeof read === 'string' ? read !== '' : isDnsName(read.text) || isSpiffeId(read.text);
    }),
    RUNS,
  );
  t.match(readPeerIdentity([dns('a'.repeat(200_000))]), /no DNS name/, 'however long a name is');
});
