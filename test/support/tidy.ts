/**
 * The house rules, as pure functions over paths and texts: what each returns is empty in a tidy repository. They are
 * proved able to fail in test/unit/tidy.test.ts, which then applies them to the checkout.
 */

import {
  cppComments,
  cppFunctions,
  type FunctionExtent,
  type Located,
  readTypeScript,
  type SourceText,
  type TypeScriptFacts,
} from './syntax.ts';

/** A broken rule, for a reader who wants to mend it. */
export interface Finding {
  readonly path: string;
  /** 1 is the first line. */
  readonly line: number;
  readonly message: string;
}

/** Longest file in lines; most stay near 300. */
export const FILE_LINES = 500;

/** Longest function in lines: what fits a screen, and a little. */
export const FUNCTION_LINES = 70;

/** Every rule applied to a set of files, which should be the whole repository: several rules look at all of it. */
export function findUntidy(files: readonly SourceText[]): Finding[] {
  const facts = readTypeScript(files);
  const typeScript = [...facts.values()];
  return [
    ...typeScript.flatMap(wrongDirections),
    ...importCycles(typeScript),
    ...typeScript.flatMap(longFunctions),
    ...typeScript.flatMap(undocumentedExports),
    ...typeScript.flatMap(emptyCatches),
    ...typeScript.flatMap(testsWithoutAssertions),
    ...deadFiles(typeScript),
    ...files.flatMap((file) => untidyText(file, commentsOf(file, facts))),
    ...files.flatMap(longCppFunctions),
  ];
}

function commentsOf(file: SourceText, facts: ReadonlyMap<string, TypeScriptFacts>): readonly Located[] {
  if (/\.(cc|h|mjs)$/.test(file.path)) return cppComments(file.text);
  return facts.get(file.path)?.comments ?? [];
}

/** Rules about one text alone. */
function untidyText(file: SourceText, comments: readonly Located[]): Finding[] {
  return [...longFiles(file), ...registryAddresses(file), ...untidyComments(file.path, comments)];
}

const LOWER = ['proxy/model', 'proxy/http', 'proxy/metrics', 'proxy/native', 'proxy/core'];
const STAGES = ['accept', 'detect', 'tls', 'route', 'balance', 'forward'].map((stage) => `proxy/${stage}`);
const SPINES = ['proxy/inbound.ts', 'proxy/outbound.ts'];
const CONTROL_SIDE = ['proxy/config', 'proxy/control', 'proxy/admin', 'proxy/resources'];

/**
 * What each place may import besides itself: places, or single files of them. Test code may import anything; nothing but test
 * code imports it.
 */
const MAY_IMPORT: ReadonlyMap<string, readonly string[]> = new Map([
  ['proxy/core', []],
  ...['model', 'http', 'metrics', 'native'].map((place): [string, string[]] => [`proxy/${place}`, LOWER]),
  ...STAGES.map((stage): [string, string[]] => [stage, LOWER]),
  ...SPINES.map((spine): [string, string[]] => [spine, [...STAGES, ...LOWER]]),
  ['proxy/worker.ts', [...SPINES, ...STAGES, ...LOWER]],
  ['proxy/resources', ['proxy/model', 'proxy/core']],
  ['proxy/control', ['proxy/resources', ...LOWER]],
  ['proxy/config', ['proxy/model', 'proxy/core']],
  ['proxy/admin', LOWER],
  ['proxy/main.ts', [...CONTROL_SIDE, ...SPINES, ...STAGES, ...LOWER, 'proxy/worker.ts']],
  // It is the authority of its mesh: nothing else of the control side is any of its business.
  ['proxy/demo', ['proxy/control/certificates.ts', 'proxy/core']],
  ['proxy/cli', [...CONTROL_SIDE, ...LOWER, 'proxy/main.ts', 'proxy/demo', 'iptables-init']],
  ['iptables-init', ['proxy/core']],
  ['controller', ['proxy/resources', 'proxy/control', 'proxy/core']],
  ['bench', ['proxy/core']],
]);

/** `proxy/tls` for `proxy/tls/alpn.ts`, `proxy/main.ts` for itself, `bench` for `bench/peers/haproxy.ts`. */
function placeOf(path: string): string {
  const parts = path.split('/');
  return parts[0] === 'proxy' ? parts.slice(0, 2).join('/') : parts[0];
}

function wrongDirections(facts: TypeScriptFacts): Finding[] {
  const from = placeOf(facts.path);
  if (from === 'test') return [];
  const allowed = MAY_IMPORT.get(from);
  if (allowed === undefined) {
    return [{ path: facts.path, line: 1, message: `${from} has no place in the import rule (MAY_IMPORT)` }];
  }
  return facts.references
    .filter(({ text }) => ![from, ...allowed].some((place) => place === placeOf(text) || place === text))
    .map(({ line, text }) => ({
      path: facts.path,
      line,
      message: `${from} must not import ${text}; it may import ${allowed.join(', ') || 'nothing'}`,
    }));
}

function importCycles(all: readonly TypeScriptFacts[]): Finding[] {
  const byPath = new Map(all.map((facts) => [facts.path, facts]));
  const done = new Set<string>();
  const findings: Finding[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path);
    if (start >= 0) {
      findings.push({ path, line: 1, message: `import cycle: ${[...trail.slice(start), path].join(' → ')}` });
      return;
    }
    if (done.has(path)) return;
    for (const target of new Set(byPath.get(path)?.references.map(({ text }) => text))) {
      if (target !== path) visit(target, [...trail, path]);
    }
    done.add(path);
  };
  for (const path of byPath.keys()) visit(path, []);
  return findings;
}

function longFiles({ path, text }: SourceText): Finding[] {
  const lines = text.split('\n').length - 1;
  if (lines <= FILE_LINES || !/\.(ts|mjs|cc|h)$/.test(path)) return [];
  return [{ path, line: FILE_LINES + 1, message: `${lines} lines; split it, ${FILE_LINES} is the most` }];
}

function longFunctions({ path, functions }: TypeScriptFacts): Finding[] {
  // A suite of subtests that runs against several things is one function around many.
  const size = (extent: FunctionExtent) => (path.startsWith('test/') ? extent.ownLines : extent.lines);
  return tooLong(path, functions, size);
}

function tooLong(
  path: string,
  functions: readonly FunctionExtent[],
  size: (extent: FunctionExtent) => number,
): Finding[] {
  return functions
    .filter((extent) => size(extent) > FUNCTION_LINES)
    .map((extent) => ({
      path,
      line: extent.line,
      message: `${extent.text} takes ${size(extent)} lines; ${FUNCTION_LINES} is the most`,
    }));
}

function longCppFunctions({ path, text }: SourceText): Finding[] {
  if (!/\.(cc|h)$/.test(path)) return [];
  return tooLong(path, cppFunctions(text), ({ lines }) => lines);
}

function undocumentedExports({ path, exported }: TypeScriptFacts): Finding[] {
  if (!path.startsWith('proxy/')) return [];
  return exported
    .filter(({ documented }) => !documented)
    .map(({ line, text }) => ({ path, line, message: `export ${text} has no docstring` }));
}

function emptyCatches({ path, emptyCatches: found }: TypeScriptFacts): Finding[] {
  return found.map(({ line }) => ({
    path,
    line,
    message: 'empty catch: handle the error or say where it goes',
  }));
}

/** Methods of tap's `t` that can fail; `pass`, `comment` and the like prove nothing. */
const ASSERTIONS = [
  ...[
    'ok',
    'notOk',
    'equal',
    'not',
    'same',
    'notSame',
    'strictSame',
    'strictNotSame',
    'match',
    'notMatch',
    'has',
    'hasStrict',
  ],
  ...[
    'throws',
    'doesNotThrow',
    'rejects',
    'resolves',
    'resolveMatch',
    'fail',
    'error',
    'type',
    'matchOnly',
    'hasProp',
  ],
];

function testsWithoutAssertions({ path, methodCalls }: TypeScriptFacts): Finding[] {
  if (!path.endsWith('.test.ts') || ASSERTIONS.some((name) => methodCalls.has(name))) return [];
  return [{ path, line: 1, message: 'a test file without an assertion' }];
}

/** Started by a user or a runner, so imported by nobody. */
const ENTRY_POINTS = /^(proxy\/cli\/ferrule\.ts|bench\/main\.ts|.*\.test\.ts)$/;

/** Files whose exports nobody uses. What only tests use is dead too, unless it is test code. */
function deadFiles(all: readonly TypeScriptFacts[]): Finding[] {
  const used = new Set<string>();
  for (const { path, references } of all) {
    for (const { text } of references) {
      if (text !== path && (!path.startsWith('test/') || text.startsWith('test/'))) used.add(text);
    }
  }
  return all
    .filter(({ path, exported }) => exported.length > 0 && !used.has(path) && !ENTRY_POINTS.test(path))
    .map(({ path }) => ({ path, line: 1, message: 'dead file: no product file imports it' }));
}

function registryAddresses({ path, text }: SourceText): Finding[] {
  if (!path.endsWith('package-lock.json')) return [];
  return text.split('\n').flatMap((content, index) => {
    if (!/"resolved":/.test(content)) return [];
    return [
      {
        path,
        line: index + 1,
        message: 'a registry address; npm install with the .npmrc of this repository',
      },
    ];
  });
}

/** Words that mark work left undone, with what to do instead. */
const LEFTOVERS = /\b(TODO|FIXME|XXX|HACK)\b/;

/** A comment that is a statement: a keyword or a call, and an end no sentence has. */
const CODE =
  /^(?:(?:const|let|var|if|else|return|import|export|for|while|await|throw|delete|auto|void)\b.*[;{]|[\w.]+\(.*\);|[\w.[\]]+ [-+|&]?= .*;|\}.*[;{]?)$/;

function untidyComments(path: string, comments: readonly Located[]): Finding[] {
  return comments.flatMap(({ line, text }) => {
    const leftover = LEFTOVERS.exec(text);
    if (leftover !== null)
      return [{ path, line, message: `${leftover[1]} in a comment: do it, or open an issue` }];
    if (CODE.test(text)) return [{ path, line, message: 'commented-out code: delete it' }];
    return [];
  });
}
