/** What the tidy rules need to know of source texts, as plain facts: TypeScript by the compiler's own parser, C++ by braces. */

import { posix } from 'node:path';
import type { Node, SourceFile } from 'typescript/unstable/ast';
import { SyntaxKind } from 'typescript/unstable/ast';
import { isFunctionLikeDeclaration } from 'typescript/unstable/ast/is';
import { computeLineStarts, skipTrivia } from 'typescript/unstable/ast/scanner';
import { createVirtualFileSystem } from 'typescript/unstable/fs';
import { API } from 'typescript/unstable/sync';

/** One file: its path from the top of the repository, with `/`, and what it holds. */
export interface SourceText {
  readonly path: string;
  readonly text: string;
}

/** Something at a line, 1 being the first. */
export interface Located {
  readonly line: number;
  readonly text: string;
}

/** What a TypeScript file says, as far as rules care. */
export interface TypeScriptFacts {
  readonly path: string;
  /** Files of the set it names by a relative path: imports of every kind, worker scripts; `text` is the target's path. */
  readonly references: readonly Located[];
  /** Top-level declarations with `export`. */
  readonly exported: readonly (Located & { readonly documented: boolean })[];
  readonly functions: readonly FunctionExtent[];
  /** Catch clauses without a statement. */
  readonly emptyCatches: readonly Located[];
  /** `text` is without the comment signs of single-line comments. */
  readonly comments: readonly Located[];
  /** Names of methods called, `equal` for `t.equal(a, b)`. */
  readonly methodCalls: ReadonlySet<string>;
}

/** Where a function stands and how many lines it takes, signature included. */
export interface FunctionExtent extends Located {
  readonly lines: number;
  /** `lines` without what lies inside functions within it: what is left of a suite of subtests. */
  readonly ownLines: number;
}

/** The facts of every TypeScript file among `files`, by path. Texts that do not compile still give facts. */
export function readTypeScript(files: readonly SourceText[]): Map<string, TypeScriptFacts> {
  const sources = files.filter((file) => file.path.endsWith('.ts'));
  const root = '/tidy';
  const virtual: Record<string, string> = {
    [`${root}/tsconfig.json`]: JSON.stringify({
      compilerOptions: { noResolve: true, noLib: true, types: [] },
      files: sources.map((file) => file.path),
    }),
  };
  for (const file of sources) virtual[`${root}/${file.path}`] = file.text;
  const api = new API({ cwd: root, fs: createVirtualFileSystem(virtual) });
  try {
    const project = api
      .updateSnapshot({ openProjects: [`${root}/tsconfig.json`] })
      .getProject(`${root}/tsconfig.json`);
    const known = new Set(sources.map((file) => file.path));
    return new Map(
      sources.map((file) => {
        const tree = project?.program.getSourceFile(`${root}/${file.path}`);
        if (tree === undefined) throw new Error(`the parser did not return ${file.path}`);
        return [file.path, factsOf(file, tree, known)];
      }),
    );
  } finally {
    api.close();
  }
}

function factsOf(file: SourceText, tree: SourceFile, known: ReadonlySet<string>): TypeScriptFacts {
  const { text } = file;
  const lineStarts = computeLineStarts(text);
  const lineAt = (position: number) => lineOf(lineStarts, position);
  const references: Located[] = [];
  const functions: (FunctionExtent & { ownLines: number })[] = [];
  const around: (FunctionExtent & { ownLines: number })[] = [];
  const emptyCatches: Located[] = [];
  const methodCalls = new Set<string>();
  const literals: Node[] = [];

  const visit = (node: Node): void => {
    const line = lineAt(skipTrivia(text, node.pos));
    if (LITERALS.has(node.kind)) {
      literals.push(node);
      const target = referenceTarget(
        file.path,
        text.slice(skipTrivia(text, node.pos) + 1, node.end - 1),
        known,
      );
      if (target !== undefined) references.push({ line, text: target });
    } else if (isFunctionLikeDeclaration(node)) {
      const { name } = node as { name?: Node };
      const named = name === undefined ? 'a function' : text.slice(skipTrivia(text, name.pos), name.end);
      const lines = lineAt(node.end) - line + 1;
      const outer = around.at(-1);
      // The first line holds the call it is an argument of.
      if (outer !== undefined) outer.ownLines -= lines - 1;
      const extent = { line, text: named, lines, ownLines: lines };
      functions.push(extent);
      around.push(extent);
      node.forEachChild(visit);
      around.pop();
      return;
    } else if (node.kind === SyntaxKind.CatchClause) {
      if (bodyIsEmpty(node)) emptyCatches.push({ line, text: 'catch' });
    } else if (node.kind === SyntaxKind.CallExpression) {
      const method = /\.(\w+)$/.exec(
        text.slice(node.pos, (node as Node & { expression: Node }).expression.end),
      );
      if (method !== null) methodCalls.add(method[1]);
    }
    node.forEachChild(visit);
  };
  visit(tree);
  const comments = commentsIn(blank(text, literals), lineAt);
  return {
    path: file.path,
    references,
    exported: exportsOf(tree, text, lineAt),
    functions,
    emptyCatches,
    comments,
    methodCalls,
  };
}

const LITERALS: ReadonlySet<SyntaxKind> = new Set([
  SyntaxKind.StringLiteral,
  SyntaxKind.NoSubstitutionTemplateLiteral,
  SyntaxKind.TemplateHead,
  SyntaxKind.TemplateMiddle,
  SyntaxKind.TemplateTail,
  SyntaxKind.RegularExpressionLiteral,
]);

/** The file of the set that a string names from where it stands; a worker's `./x.js` means its source `./x.ts`. */
function referenceTarget(from: string, literal: string, known: ReadonlySet<string>): string | undefined {
  if (!/^\.{1,2}\//.test(literal)) return undefined;
  const target = posix.join(posix.dirname(from), literal);
  return [target, target.replace(/\.js$/, '.ts')].find((path) => known.has(path));
}

function bodyIsEmpty(clause: Node): boolean {
  const isFull = (child: Node) => child.kind === SyntaxKind.Block && child.forEachChild(() => true);
  return clause.forEachChild(isFull) !== true;
}

function exportsOf(
  tree: SourceFile,
  text: string,
  lineAt: (position: number) => number,
): TypeScriptFacts['exported'] {
  const found: (Located & { documented: boolean })[] = [];
  tree.forEachChild((statement) => {
    const { modifiers, jsDoc } = statement as { modifiers?: Iterable<Node>; jsDoc?: readonly unknown[] };
    if (![...(modifiers ?? [])].some((modifier) => modifier.kind === SyntaxKind.ExportKeyword)) return;
    const start = skipTrivia(text, statement.pos);
    const head = /^export\s+(?:default\s+|declare\s+|abstract\s+|async\s+)*\w+\*?\s+(\w+)/.exec(
      text.slice(start),
    );
    found.push({ line: lineAt(start), text: head?.[1] ?? 'default', documented: (jsDoc?.length ?? 0) > 0 });
  });
  return found;
}

/** Replaces the inside of nodes by spaces, so that a plain pattern finds what is left. */
function blank(text: string, nodes: readonly Node[]): string {
  let result = '';
  let done = 0;
  for (const node of [...nodes].sort((a, b) => a.pos - b.pos)) {
    const start = skipTrivia(text, node.pos);
    if (start < done) continue;
    result += text.slice(done, start) + text.slice(start, node.end).replace(/[^\n]/g, ' ');
    done = node.end;
  }
  return result + text.slice(done);
}

function commentsIn(text: string, lineAt: (position: number) => number): Located[] {
  return [...text.matchAll(/\/\/([^\n]*)|\/\*[\s\S]*?\*\//g)].map((match) => ({
    line: lineAt(match.index),
    text: match[1]?.trim() ?? match[0],
  }));
}

function lineOf(lineStarts: readonly number[], position: number): number {
  let low = 0;
  let high = lineStarts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if (lineStarts[middle] <= position) low = middle;
    else high = middle - 1;
  }
  return low + 1;
}

/** Comments of a C++ text. */
export function cppComments(text: string): Located[] {
  const lineStarts = computeLineStarts(text);
  return commentsIn(withoutCppLiterals(text), (position) => lineOf(lineStarts, position));
}

/**
 * The functions of a C++ text, found by braces: a block that opens outside of any function and whose head has parameters.
 * Preprocessor conditionals must not split braces.
 */
export function cppFunctions(text: string): FunctionExtent[] {
  const lineStarts = computeLineStarts(text);
  const code = withoutCppLiterals(text)
    .replace(/\/\/[^\n]*|\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ' '))
    .replace(/^[ \t]*#(?:[^\n]*\\\n)*[^\n]*/gm, (directive) => directive.replace(/[^\n]/g, ' '));
  const found: FunctionExtent[] = [];
  let inside: { start: number; depth: number } | undefined;
  let depth = 0;
  let headStart = 0;
  for (let at = 0; at < code.length; at++) {
    const char = code[at];
    if (char === '{') {
      const head = code.slice(headStart, at);
      if (inside === undefined && /\(/.test(head) && !/[=,(]\s*$/.test(head)) {
        inside = { start: headStart + head.search(/\S/), depth };
      }
      depth++;
    } else if (char === '}') {
      depth--;
      if (inside?.depth === depth) {
        const line = lineOf(lineStarts, inside.start);
        const name = /([\w:~]+)\s*\(/.exec(code.slice(inside.start))?.[1] ?? 'a function';
        const lines = lineOf(lineStarts, at) - line + 1;
        found.push({ line, text: name, lines, ownLines: lines });
        inside = undefined;
      }
    }
    if (char === '{' || char === '}' || char === ';') headStart = at + 1;
  }
  return found;
}

function withoutCppLiterals(text: string): string {
  // Digit separators (1'000) are no character literals.
  return text.replace(
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|"(?:[^"\\\n]|\\.)*"|(?<!\d)'(?:[^'\\\n]|\\.)*'/g,
    (match) => (match.startsWith('/') ? match : match.replace(/[^\n]/g, ' ')),
  );
}
