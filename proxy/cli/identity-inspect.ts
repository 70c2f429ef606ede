/** `ferrule identity inspect`: what certificates say, and everything that is wrong with them. */
import { readFile } from 'node:fs/promises';
import { duration, Mistake } from '../config/kinds.ts';
import { judgeChain, workloadProblems } from '../control/own-certificate.ts';
import { roughly, timeProblem } from '../control/validity.ts';
import { type Certificate, readCertificates } from '../control/x509.ts';
import { EXIT, UserError } from '../core/errors.ts';
import { type CertificateName, readPeerIdentity } from '../core/identity.ts';
import { type CommandFace, parseOptions, usageError } from './command.ts';

/** Takes what a command prints. */
export type Output = (text: string) => void;

/** What `inspect` takes; `identity.ts` prints it. */
export const INSPECT_FACE = {
  name: 'identity inspect',
  summary: 'show what certificates say, and what is wrong with them',
  positionals: 'FILE',
  description: `
FILE is PEM: a workload's certificate with its intermediates (tls.crt), or authorities alone (ca.crt). Ends with 1
when something is wrong that makes a proxy refuse it, or when --fail-if-expires-in says so; every reason is printed.`,
  options: {
    anchors: {
      value: 'FILE',
      help: 'trust anchors: says whether the first certificate leads to one of them',
    },
    'fail-if-expires-in': {
      value: 'DURATION',
      help: 'fail if any certificate of FILE ends within this time, such as 24h',
    },
    json: { help: 'print one JSON object' },
  },
  examples: [
    'ferrule identity inspect tls.crt --anchors ca.crt',
    'ferrule identity inspect tls.crt --fail-if-expires-in 6h --json',
  ],
} as const satisfies CommandFace;

/** One certificate, as `--json` prints it. */
interface CertificateFacts {
  readonly kind: 'workload' | 'authority';
  readonly subject: string;
  readonly issuer: string;
  readonly serial: string;
  readonly sha256: string;
  readonly key: string;
  readonly identity: string | null;
  readonly names: readonly { readonly type: CertificateName['type']; readonly value: string }[];
  readonly notBefore: string;
  readonly notAfter: string;
  /** Below 0 once it has expired. */
  readonly remainingSeconds: number;
  readonly problems: readonly string[];
}

/** What `--json` prints. */
interface Inspection {
  readonly file: string;
  readonly now: string;
  readonly ok: boolean;
  readonly certificates: readonly CertificateFacts[];
  readonly chain: 'trusted' | 'untrusted' | 'unchecked';
  readonly chainProblem: string | null;
}

const marginKind = duration('0s', '876000h');

/**
 * Runs `ferrule identity inspect`.
 * @returns 1 when something is wrong
 * @throws UserError when a file cannot be read
 */
export async function inspect(args: readonly string[], print: Output): Promise<number> {
  const mistakes: string[] = [];
  const options = parseOptions(INSPECT_FACE, args, mistakes);
  const [file, ...more] = options.positionals;
  if (file === undefined) mistakes.push('FILE is missing');
  if (more.length > 0) mistakes.push(`one FILE at a time, got ${options.positionals.length}`);
  const margin = options.text('fail-if-expires-in');
  const marginMs = margin === undefined ? 0 : marginKind.parse(margin, '');
  if (marginMs instanceof Mistake) mistakes.push(`--fail-if-expires-in ${marginMs.message}`);
  if (mistakes.length > 0 || marginMs instanceof Mistake) throw usageError(INSPECT_FACE.name, mistakes);
  const anchorsFile = options.text('anchors');
  const certificates = await readFrom(file);
  const anchors = anchorsFile === undefined ? undefined : await readFrom(anchorsFile);
  const found = judge(file, certificates, anchors, Date.now(), marginMs);
  print(options.flag('json') ? `${JSON.stringify(found, null, 2)}\n` : describe(found));
  return found.ok ? EXIT.ok : EXIT.failure;
}

async function readFrom(file: string): Promise<readonly [Certificate, ...Certificate[]]> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason = code === 'ENOENT' ? 'there is no such file' : message;
    throw new UserError(`cannot read ${file}: ${reason}`, EXIT.os, { cause: error });
  }
  return readCertificates(text, file);
}

function judge(
  file: string,
  certificates: readonly [Certificate, ...Certificate[]],
  anchors: readonly Certificate[] | undefined,
  nowMs: number,
  marginMs: number,
): Inspection {
  const first = isWorkload(certificates[0]);
  const facts = certificates.map((certificate, index) =>
    factsOf(certificate, first && index === 0, nowMs, marginMs),
  );
  const problem = anchors === undefined ? undefined : untrusted(certificates, anchors, nowMs);
  return {
    file,
    now: new Date(nowMs).toISOString(),
    ok: problem === undefined && facts.every(({ problems }) => problems.length === 0),
    certificates: facts,
    chain: anchors === undefined ? 'unchecked' : problem === undefined ? 'trusted' : 'untrusted',
    chainProblem: problem ?? null,
  };
}

/** A certificate that says it is an authority's but cannot issue is a broken one of a workload. */
function isWorkload({ isCa, keyUsages }: Certificate): boolean {
  return !isCa || keyUsages?.includes('keyCertSign') === false;
}

/** An anchor leads to itself. */
function untrusted(
  chain: readonly [Certificate, ...Certificate[]],
  anchors: readonly Certificate[],
  nowMs: number,
): string | undefined {
  const isAnchor = anchors.some(({ x509 }) => x509.raw.equals(chain[0].x509.raw));
  if (isAnchor) return undefined;
  const verdict = judgeChain(chain, anchors, nowMs);
  return typeof verdict === 'string' ? verdict : undefined;
}

function factsOf(
  certificate: Certificate,
  workload: boolean,
  nowMs: number,
  marginMs: number,
): CertificateFacts {
  const { x509, names, notBeforeMs, notAfterMs, keyKind } = certificate;
  const identity = readPeerIdentity(names);
  return {
    kind: workload ? 'workload' : 'authority',
    subject: x509.subject?.replaceAll('\n', ', ') ?? '',
    issuer: x509.issuer?.replaceAll('\n', ', ') ?? '',
    serial: x509.serialNumber.toLowerCase(),
    sha256: x509.fingerprint256.replaceAll(':', '').toLowerCase(),
    key: keyKind,
    identity: workload && typeof identity !== 'string' ? identity.text : null,
    names: names.map(({ type, bytes }) => ({ type, value: Buffer.from(bytes).toString('latin1') })),
    notBefore: new Date(notBeforeMs).toISOString(),
    notAfter: new Date(notAfterMs).toISOString(),
    remainingSeconds: Math.floor((notAfterMs - nowMs) / 1000),
    problems: [
      ...(workload ? workloadProblems(certificate) : authorityProblems(certificate)),
      ...timeProblems(certificate, nowMs, marginMs),
    ],
  };
}

function authorityProblems({ isCa, keyUsages }: Certificate): string[] {
  if (!isCa) return ['it is not an authority (basic constraints), but follows another certificate'];
  return keyUsages?.includes('keyCertSign') === false ? ['its key usage lacks keyCertSign'] : [];
}

function timeProblems(certificate: Certificate, nowMs: number, marginMs: number): string[] {
  const problem = timeProblem(certificate, 'it', nowMs);
  const left = certificate.notAfterMs - nowMs;
  if (left <= 0 || left >= marginMs) return problem === undefined ? [] : [problem];
  const [end, now] = [certificate.notAfterMs, nowMs].map((ms) => new Date(ms).toISOString());
  const soon = `it expires at ${end}, in ${roughly(left)}, sooner than asked for; our clock says ${now}`;
  return problem === undefined ? [soon] : [problem, soon];
}

function describe({ file, now, ok, certificates, chain, chainProblem: problem }: Inspection): string {
  const lines = certificates.flatMap((facts, index) => [
    `${file}, certificate ${index + 1} of ${certificates.length}: ${facts.kind}`,
    ...facts.names.map(({ type, value }) => row(type === 'other' ? 'other name' : type, shown(value))),
    row('subject', shown(facts.subject) || '(none)'),
    row('issuer', shown(facts.issuer) || '(none)'),
    row('serial', facts.serial),
    row('sha256', facts.sha256),
    row('key', facts.key),
    row('valid from', facts.notBefore),
    row('valid to', `${facts.notAfter} (${remaining(facts.remainingSeconds)}; our clock says ${now})`),
    ...facts.problems.map((text) => row('PROBLEM', text)),
  ]);
  const verdicts = {
    trusted: 'chain: leads to a trust anchor',
    untrusted: `chain: PROBLEM: ${problem}`,
    unchecked: 'chain: not checked; give --anchors',
  };
  return `${[...lines, verdicts[chain], ok ? 'Nothing is wrong.' : 'Something is wrong.'].join('\n')}\n`;
}

function row(name: string, value: string): string {
  return `  ${name.padEnd(10)}  ${value}`;
}

/** Names are whatever their maker liked: nothing in them may move the cursor or hide. */
function shown(text: string): string {
  return /^[\x20-\x7e]*$/.test(text) ? text : JSON.stringify(text).replace(/[^\x20-\x7e]/g, escaped);
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

function remaining(seconds: number): string {
  return seconds < 0 ? `expired ${roughly(-seconds * 1000)} ago` : `${roughly(seconds * 1000)} left`;
}
