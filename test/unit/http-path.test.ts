/** Canonical paths: what is rewritten, what is refused, and that no spelling of a path gets past its canonical form. */
import fc from 'fast-check';
import t from 'tap';
import { canonicalPath } from '../../proxy/http/path.ts';
import { PROBLEM } from '../../proxy/http/problems.ts';
import { bytesOf, textOf } from '../support/http-codec.ts';

const RUNS = { seed: 20_261_121, numRuns: process.env.FERRULE_SOAK === '1' ? 50_000 : 2000 };

/** The canonical text, or the name of the problem. Read amid other bytes, which must not matter. */
function canonical(path: string): string {
  const bytes = bytesOf(`/../${path}ff/../%2f`);
  const result = canonicalPath(bytes, 4, 4 + bytesOf(path).length);
  if (result === 0) return path;
  if (typeof result !== 'number') return textOf(result);
  return Object.entries(PROBLEM).find(([, number]) => number === -result)?.[0] ?? `${result}`;
}

t.test('canonical as they are: nothing is made', async (t) => {
  const paths = [
    '/',
    '/a',
    '/a/',
    '/a/b.c/d?e=/../f//%2f',
    '/.well-known/x',
    '/.../x',
    '/a..',
    '/..a',
    '/a%20b',
    '/%C3%A4',
    '/%3F%23%25',
    '/a;v=1/b',
    "/~!$&'()*+,=:@-_|[]{}",
  ];
  for (const path of paths) t.equal(canonical(path), path);
  const bytes = bytesOf('/usual/path?x=%zz');
  t.equal(canonicalPath(bytes, 0, bytes.length), 0);
});

t.test('rewritten', async (t) => {
  const rewritten: readonly (readonly [string, string])[] = [
    ['', '/'],
    ['?x=1', '/?x=1'],
    ['/%41%7e%2D', '/A~-'],
    ['/%c3%a4', '/%C3%A4'],
    ['//', '/'],
    ['//admin', '/admin'],
    ['/a//b///c//', '/a/b/c/'],
    ['/./a', '/a'],
    ['/a/.', '/a/'],
    ['/a/..', '/'],
    ['/a/../b', '/b'],
    ['/a/b/../../c', '/c'],
    ['/a//../b', '/b'],
    ['/%2e/a', '/a'],
    ['/a/%2E%2e/b', '/b'],
    ['/a/.%2e/b?../x', '/b?../x'],
    ['/public/../admin', '/admin'],
    ['/%61dmin', '/admin'],
  ];
  for (const [path, expected] of rewritten) t.equal(canonical(path), expected, path);
});

t.test('refused', async (t) => {
  const refused: readonly (readonly [string, keyof typeof PROBLEM])[] = [
    ['/a%2fb', 'pathEncodedSlash'],
    ['/a%2Fb', 'pathEncodedSlash'],
    ['/..%2fadmin', 'pathEncodedSlash'],
    ['/a%5cb', 'pathEncodedSlash'],
    ['/a\\..\\b', 'pathBackslash'],
    ['/a%00b', 'pathEncodedNul'],
    ['/a%', 'pathPercent'],
    ['/a%2', 'pathPercent'],
    ['/a%2/b', 'pathPercent'],
    ['/a%2?b', 'pathPercent'],
    ['/a%gg', 'pathPercent'],
    ['/a%u0041', 'pathPercent'],
    ['/a#b', 'pathByte'],
    ['/\xe4', 'pathByte'],
    ['/a b', 'pathByte'],
    ['/a\0', 'pathByte'],
    ['/a\x7f', 'pathByte'],
    ['/..', 'pathAboveRoot'],
    ['/a/../../b', 'pathAboveRoot'],
    ['/%2e%2e/', 'pathAboveRoot'],
    ['/..;/admin', 'pathDotParameter'],
    ['/a/..;x=1/admin', 'pathDotParameter'],
    ['/a/.;/b', 'pathDotParameter'],
    ['/a/%2e%2e;/b', 'pathDotParameter'],
    ['/a/..%3b/b', 'pathDotParameter'],
  ];
  for (const [path, problem] of refused) t.equal(canonical(path), problem, path);
});

/** Bits of paths that mean something, and some that do not. */
const PIECES = [
  '/',
  '/',
  '.',
  '..',
  '%2e',
  '%2E',
  'a',
  'admin',
  '%61',
  '%2f',
  '%5c',
  ';',
  '%3b',
  '%',
  '%00',
  '\\',
  '?',
  '%25',
  '\xe4',
];

t.test('properties: the form is a fixed point, and a lenient server cannot be led elsewhere', async (t) => {
  const path = fc.array(fc.constantFrom(...PIECES), { maxLength: 12 }).map((pieces) => `/${pieces.join('')}`);
  let accepted = 0;
  fc.assert(
    fc.property(path, (text) => {
      const form = canonical(text);
      if (!form.startsWith('/')) return;
      accepted++;
      if (canonical(form) !== form) throw new Error(`${text} → ${form} → ${canonical(form)}`);
      const expected = lenient(text);
      if (lenient(form) !== expected) throw new Error(`${text}: ${lenient(form)} instead of ${expected}`);
      const [plain] = form.split('?');
      if (/\/\/|\/\.{1,2}(\/|$)|%(2[ef]|5c|00)/i.test(plain)) throw new Error(`${text} → ${form}`);
    }),
    RUNS,
  );
  t.ok(accepted > RUNS.numRuns / 10, `${accepted} paths were accepted`);
});

/** What a server sees that decodes once, merges slashes and resolves dots. */
function lenient(path: string): string {
  const [plain] = path.split('?');
  const decoded = plain.replace(/%([0-9a-f]{2})/gi, (_, digits) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  );
  const out: string[] = [];
  const segments = decoded.split('/').filter((segment) => segment !== '');
  for (const segment of segments) {
    if (segment === '..') out.pop();
    else if (segment !== '.') out.push(segment);
  }
  return `/${out.join('/')}`;
}
