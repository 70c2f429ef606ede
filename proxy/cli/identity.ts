/** `ferrule identity`: makes a development authority, issues certificates from it, and says what is wrong with certificates. */
import { existsSync } from 'node:fs';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { duration, type Kind, Mistake } from '../config/kinds.ts';
import { createAuthority, issueCertificate, type KeyKind } from '../control/certificates.ts';
import { timeProblem } from '../control/validity.ts';
import { type Certificate, readCertificates, readPrivateKey } from '../control/x509.ts';
import { EXIT, UserError } from '../core/errors.ts';
import { readPeerIdentity } from '../core/identity.ts';
import { nearest } from '../core/nearest.ts';
import { type Command, type CommandFace, formatUsage, parseOptions, usageError } from './command.ts';
import { INSPECT_FACE, inspect, type Output } from './identity-inspect.ts';

/** Kubernetes' and Linkerd's. */
const DEFAULT_TRUST_DOMAIN = 'cluster.local';

/** Readable by everybody, and by the owner only. */
const PUBLIC_MODE = 0o644;
const SECRET_MODE = 0o600;

const lifetimeKind = duration('1m', '876000h');

const CA_FACE = {
  name: 'identity ca',
  summary: 'make a certificate authority for development',
  description: `
Writes ca.crt, the trust anchor every proxy gets, and ca.key (mode 0600), which stays with whoever issues. Nothing
is overwritten.

A roll-over without a refused connection: make a new authority in another folder; append its ca.crt to the old
ca.crt and issue to everybody from the old one, so that all trust both; then append the old ca.crt to the new one
and issue to everybody from the new one; at last take the old certificate out and issue once more.`,
  options: {
    out: { value: 'DIR', help: 'where to write; made when it is not there (required)' },
    'trust-domain': {
      value: 'DOMAIN',
      default: DEFAULT_TRUST_DOMAIN,
      help: 'the domain of all its identities',
    },
    lifetime: { value: 'DURATION', default: '87600h', help: 'how long it is valid' },
    key: { value: 'KIND', default: 'p256', help: 'p256 or ed25519' },
  },
  examples: ['ferrule identity ca --out ca'],
} as const satisfies CommandFace;

const ISSUE_FACE = {
  name: 'identity issue',
  summary: 'issue a certificate to a service account',
  description: `
Writes tls.key (mode 0600), tls.crt and ca.crt into a folder, where a proxy finds them with identity.certificate,
identity.key and identity.trustAnchors. Each is replaced as a whole, the certificate last: a proxy that runs takes
them over without losing a connection. The key is readable by its owner only: run this as the proxy's user, or
chown it.

DIR of --ca holds ca.key and ca.crt. The first certificate of ca.crt issues; roots that follow it become trust
anchors as well (a roll-over), and intermediates go into tls.crt.`,
  options: {
    ca: { value: 'DIR', help: 'the authority, as `ferrule identity ca` made it (required)' },
    namespace: { value: 'NAME', help: 'the namespace of the service account (required)' },
    'service-account': { value: 'NAME', help: 'the service account (required)' },
    out: { value: 'DIR', help: 'where to write; made when it is not there (required)' },
    'trust-domain': { value: 'DOMAIN', help: `default: the authority's, or ${DEFAULT_TRUST_DOMAIN}` },
    lifetime: {
      value: 'DURATION',
      default: '24h',
      help: 'how long it is valid, but never longer than the authority',
    },
    key: { value: 'KIND', default: 'p256', help: 'p256 or ed25519' },
    mesh: {
      value: 'LABEL',
      default: 'linkerd',
      help: 'NAME.NAMESPACE.serviceaccount.identity.LABEL.DOMAIN is its DNS name',
    },
  },
  examples: [
    'ferrule identity issue --ca ca --namespace shop --service-account web --out web',
    'ferrule identity issue --ca ca --namespace shop --service-account web --out web --lifetime 1h',
  ],
} as const satisfies CommandFace;

const ACTIONS: Readonly<Record<string, (args: readonly string[], out: Output) => Promise<number>>> = {
  ca,
  issue,
  inspect,
};

const SUMMARY = 'make, issue and inspect certificates';

/** The command, for the registry of `ferrule.ts`. */
export const command: Command = {
  name: 'identity',
  summary: SUMMARY,
  usage: [
    'Usage: ferrule identity ca|issue|inspect [OPTIONS]\n',
    ...[CA_FACE, ISSUE_FACE, INSPECT_FACE].map((face) => formatUsage(face)),
  ].join('\n'),
  run: (args) => runIdentity(args, (text) => void process.stdout.write(text)),
};

/** `command.run`, with what it prints going to `out`. */
export async function runIdentity([action, ...args]: readonly string[], out: Output): Promise<number> {
  const names = Object.keys(ACTIONS).join(', ');
  if (action === undefined) throw usageError('identity', [`what to do is missing: ${names}`]);
  if (Object.hasOwn(ACTIONS, action)) return ACTIONS[action](args, out);
  const guess = nearest(action, Object.keys(ACTIONS));
  const hint = guess === undefined ? `there are ${names}` : `did you mean ${guess}?`;
  throw usageError('identity', [`${JSON.stringify(action)} is nothing it can do; ${hint}`]);
}

async function ca(args: readonly string[], print: Output): Promise<number> {
  const mistakes: string[] = [];
  const options = parseOptions(CA_FACE, args, mistakes);
  const out = required('out', options.text('out'), mistakes);
  const lifetimeMs = checked('lifetime', lifetimeKind, options.text('lifetime')!, mistakes);
  const key = checkedKey(options.text('key')!, mistakes);
  if (mistakes.length > 0) throw usageError(CA_FACE.name, mistakes);
  const trustDomain = options.text('trust-domain')!;
  const [certificateFile, keyFile] = [join(out, 'ca.crt'), join(out, 'ca.key')];
  // Whoever replaces a root by mistake cuts every workload off.
  const present = [certificateFile, keyFile].find((path) => existsSync(path));
  if (present !== undefined) {
    throw new UserError(
      `${present} is there already, and an authority is never overwritten: choose another folder`,
    );
  }
  const { certificatePem, keyPem } = await createAuthority({ trustDomain, lifetimeMs, key });
  await makeFolder(out);
  await replace(keyFile, keyPem, SECRET_MODE);
  await replace(certificateFile, certificatePem, PUBLIC_MODE);
  return say(print, [
    `wrote ${certificateFile} and ${keyFile}`,
    `trust domain ${trustDomain}`,
    validityOf(readCertificates(certificatePem, certificateFile)[0]),
  ]);
}

async function issue(args: readonly string[], print: Output): Promise<number> {
  const mistakes: string[] = [];
  const options = parseOptions(ISSUE_FACE, args, mistakes);
  const folder = required('ca', options.text('ca'), mistakes);
  const namespace = required('namespace', options.text('namespace'), mistakes);
  const serviceAccount = required('service-account', options.text('service-account'), mistakes);
  const out = required('out', options.text('out'), mistakes);
  const lifetimeMs = checked('lifetime', lifetimeKind, options.text('lifetime')!, mistakes);
  const key = checkedKey(options.text('key')!, mistakes);
  if (mistakes.length > 0) throw usageError(ISSUE_FACE.name, mistakes);
  const authority = await readAuthority(folder);
  const trustDomain = chooseTrustDomain(options.text('trust-domain'), authority.certificates[0]);
  const mesh = options.text('mesh')!;
  const request = { namespace, serviceAccount, trustDomain, mesh, lifetimeMs, key };
  const { certificatePem, keyPem } = await issueCertificate(authority, request);
  await makeFolder(out);
  // Trust before use, and the certificate last: a proxy takes over what fits together.
  await replace(join(out, 'ca.crt'), authority.anchorsPem, PUBLIC_MODE);
  await replace(join(out, 'tls.key'), keyPem, SECRET_MODE);
  await replace(join(out, 'tls.crt'), certificatePem, PUBLIC_MODE);
  const [leaf] = readCertificates(certificatePem, 'tls.crt');
  const identity = readPeerIdentity(leaf.names);
  if (typeof identity === 'string') throw new Error(`the certificate just made is not usable: ${identity}`);
  return say(print, [
    `wrote tls.crt, tls.key and ca.crt in ${out}`,
    `identity ${identity.text}`,
    `         ${identity.spiffeId}`,
    validityOf(leaf),
  ]);
}

interface Authority {
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly anchorsPem: string;
  readonly certificates: readonly [Certificate, ...Certificate[]];
}

/** @throws UserError when the folder does not hold an authority that can issue now */
async function readAuthority(folder: string): Promise<Authority> {
  const [certificateFile, keyFile] = [join(folder, 'ca.crt'), join(folder, 'ca.key')];
  const certificatePem = await readText(certificateFile);
  const keyPem = await readText(keyFile);
  const certificates = readCertificates(certificatePem, certificateFile);
  const [issuer] = certificates;
  if (!issuer.isCa) throw new UserError(`${certificateFile}: its first certificate is not an authority's`);
  const problem = timeProblem(issuer, certificateFile, Date.now());
  if (problem !== undefined) {
    throw new UserError(
      `${problem}. Unless that is wrong, make a new authority with \`ferrule identity ca\``,
    );
  }
  if (!issuer.x509.checkPrivateKey(readPrivateKey(keyPem, keyFile))) {
    throw new UserError(`${keyFile} is not the key of the first certificate of ${certificateFile}`);
  }
  const anchors = certificates.filter(({ x509 }) => x509.checkIssued(x509));
  if (anchors.length === 0) {
    throw new UserError(`${certificateFile} has no root: append the certificate that proxies are to trust`);
  }
  return { certificatePem, keyPem, certificates, anchorsPem: anchors.map(({ pem }) => pem).join('') };
}

/** @throws UserError when the one asked for is not the authority's */
function chooseTrustDomain(wanted: string | undefined, { names }: Certificate): string {
  const uri = names.find(({ type }) => type === 'uri');
  const own = uri && /^spiffe:\/\/([^/]+)$/.exec(Buffer.from(uri.bytes).toString('latin1'))?.[1];
  if (wanted !== undefined && own !== undefined && wanted !== own) {
    throw new UserError(
      `the authority is that of trust domain ${own}, not ${wanted}: leave --trust-domain out, or make another authority`,
    );
  }
  return wanted ?? own ?? DEFAULT_TRUST_DOMAIN;
}

function required(name: string, text: string | undefined, mistakes: string[]): string {
  if (text === undefined) mistakes.push(`--${name} is missing`);
  return text ?? '';
}

function checked(name: string, kind: Kind<number>, text: string, mistakes: string[]): number {
  const value = kind.parse(text, '');
  if (!(value instanceof Mistake)) return value;
  mistakes.push(`--${name} ${value.message}`);
  return 0;
}

function checkedKey(text: string, mistakes: string[]): KeyKind {
  if (text === 'p256' || text === 'ed25519') return text;
  mistakes.push(`--key must be p256 or ed25519, is ${JSON.stringify(text)}`);
  return 'p256';
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw fileError('read', path, error);
  }
}

async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
  } catch (error) {
    throw fileError('make', path, error);
  }
}

/** Readers see the old file or the new one, never a part. */
async function replace(path: string, text: string, mode: number): Promise<void> {
  const temporary = `${path}.${process.pid}.new`;
  try {
    await writeExclusively(temporary, text, mode);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw fileError('write', path, error);
  }
}

/** The mode holds from the first byte: a file somebody else has put there is an error. */
async function writeExclusively(path: string, text: string, mode: number): Promise<void> {
  const file = await open(path, 'wx', mode);
  try {
    await file.writeFile(text);
    // A rename that outlives a crash must not name an empty file.
    await file.sync();
  } finally {
    await file.close();
  }
}

function fileError(verb: string, path: string, error: unknown): UserError {
  const { code, message } = error as NodeJS.ErrnoException;
  const reason = code === 'ENOENT' ? 'there is no such file or folder' : message;
  return new UserError(`cannot ${verb} ${path}: ${reason}`, EXIT.os, { cause: error });
}

function validityOf({ notBeforeMs, notAfterMs }: Certificate): string {
  return `valid    ${new Date(notBeforeMs).toISOString()} to ${new Date(notAfterMs).toISOString()}`;
}

function say(print: Output, lines: readonly string[]): number {
  print(`${lines.join('\n')}\n`);
  return EXIT.ok;
}
