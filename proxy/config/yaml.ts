/** YAML text to `Raw`, with the line of everything. */
import type { Document, LineCounter, Node, Pair } from 'yaml';
import { quote } from './kinds.ts';
import type { Findings, Place, Raw, RawMap } from './shapes.ts';

/** Levels of nesting; settings have four. */
const MAX_DEPTH = 16;

/** An address such as [::1]:4140 where YAML takes the bracket for a list. */
const UNQUOTED_IPV6 = /(^|[^"'])\[[\da-f]*:[\da-f:.]*\]:\d/i;
const QUOTE_IPV6 = '; an IPv6 address needs quotes: "[::1]:4140"';

type Yaml = typeof import('yaml');

/**
 * Reads the YAML document `text`, reporting under the name `file` what is wrong with it.
 * @returns undefined when there is nothing to go on: the text is empty, or its mistakes were reported.
 */
export async function parseYaml(text: string, file: string, findings: Findings): Promise<RawMap | undefined> {
  // Loaded here because most containers run without a file, and the library costs 3 MB.
  const yaml = await import('yaml');
  const lines = new yaml.LineCounter();
  const parsed = parseDocument(yaml, text, lines, file, findings);
  if (parsed === undefined) return undefined;
  const raw = new Converter(yaml, lines, file, findings).convert(parsed.contents, 0, 0);
  if (raw.type === 'map') return raw;
  if (raw.type !== 'nothing')
    findings.report(raw.place, '', 'must be a map of settings such as `workers: 1`');
  return undefined;
}

/** Parses; undefined when the syntax is wrong, which was reported. */
function parseDocument(
  yaml: Yaml,
  text: string,
  lines: LineCounter,
  file: string,
  findings: Findings,
): Document.Parsed | undefined {
  const options = {
    lineCounter: lines,
    prettyErrors: false,
    // Repeated keys are found by the converter, which goes on after the first.
    uniqueKeys: false,
    // Nothing but text: `off`, `010` and `1e3` are what they look like, under any %YAML directive.
    schema: 'failsafe',
  } as const;
  let parsed: Document.Parsed;
  try {
    parsed = yaml.parseDocument(text, options);
  } catch (error) {
    // The library throws where it should report when brackets are nested thousands deep.
    const reason = error instanceof Error ? explain(error.message) : String(error);
    findings.report({ source: file, order: 0 }, '', `cannot be read as YAML: ${reason}`);
    return undefined;
  }
  let reported = 0;
  for (const { code, message, pos } of [...parsed.errors, ...parsed.warnings]) {
    const line = lines.linePos(pos[0]).line;
    // What follows on the same line is nearly always a consequence.
    if (line === reported) continue;
    reported = line;
    const reason =
      code === 'MULTIPLE_DOCS' ? 'the file must be one document: remove `---`' : explain(message);
    const hint = UNQUOTED_IPV6.test(text.split('\n')[line - 1] ?? '') ? QUOTE_IPV6 : '';
    findings.report({ source: `${file}:${line}`, order: line }, '', `not valid YAML: ${reason}${hint}`);
  }
  return parsed.errors.length > 0 ? undefined : parsed;
}

class Converter {
  private readonly yaml: Yaml;
  private readonly lines: LineCounter;
  private readonly file: string;
  private readonly findings: Findings;
  /** What anchors stand for. Aliases share it, so a small file cannot unfold into a large one. */
  private readonly anchors = new Map<string, Raw>();

  constructor(yaml: Yaml, lines: LineCounter, file: string, findings: Findings) {
    this.yaml = yaml;
    this.lines = lines;
    this.file = file;
    this.findings = findings;
  }

  /** `offset` stands for nodes without a position: a key with nothing after it. */
  convert(node: Node | null, offset: number, depth: number): Raw {
    const place = this.place(node?.range?.[0] ?? offset);
    if (depth > MAX_DEPTH) {
      this.findings.report(place, '', `is nested more than ${MAX_DEPTH} levels deep`);
      return { type: 'nothing', place };
    }
    if (this.yaml.isAlias(node)) return this.convertAlias(node.source, place);
    const raw = this.convertValue(node, place, offset, depth);
    if (node?.anchor) this.anchors.set(node.anchor, raw);
    return raw;
  }

  private convertAlias(name: string, place: Place): Raw {
    const target = this.anchors.get(name);
    if (target !== undefined) return { ...target, place };
    this.findings.report(place, '', `*${name} refers to nothing: there is no complete &${name} before it`);
    return { type: 'nothing', place };
  }

  private convertValue(node: Node | null, place: Place, offset: number, depth: number): Raw {
    const { yaml } = this;
    if (yaml.isSeq<Node>(node)) {
      const items = node.items.map((item) => this.convert(item, offset, depth + 1));
      return { type: 'list', items, place };
    }
    if (yaml.isMap<Node, Node | null>(node)) return this.convertMap(node.items, place, depth);
    const text = yaml.isScalar(node) ? String(node.value ?? '') : '';
    const plain = !yaml.isScalar(node) || node.type === 'PLAIN';
    // `zone: null` and `zone: ~` are how people leave a key empty.
    if (plain && /^(|~|null)$/.test(text)) return { type: 'nothing', place };
    return { type: 'scalar', text: text.trim(), place };
  }

  private convertMap(pairs: readonly Pair<Node, Node | null>[], place: Place, depth: number): RawMap {
    const entries = new Map<string, RawMap['entries'][number]>();
    for (const pair of pairs) {
      const offset = pair.key.range?.[0] ?? 0;
      const keyPlace = this.place(offset);
      const key = this.convert(pair.key, offset, depth + 1);
      const value = this.convert(pair.value, offset, depth + 1);
      if (key.type !== 'scalar') {
        const hint = key.type === 'list' ? QUOTE_IPV6 : '';
        this.findings.report(keyPlace, '', `a key must be the name of a setting${hint}`);
        continue;
      }
      const first = entries.get(key.text);
      if (first === undefined) entries.set(key.text, { key: key.text, place: keyPlace, value });
      else
        this.findings.report(
          keyPlace,
          '',
          `${quote(key.text)} is there twice, first at ${first.place.source}`,
        );
    }
    return { type: 'map', entries: [...entries.values()], place };
  }

  private place(offset: number): Place {
    const line = Math.max(1, this.lines.linePos(offset).line);
    return { source: `${this.file}:${line}`, order: line };
  }
}

/** The library's message on one line, its stack overflow in words. */
function explain(message: string): string {
  return /call stack/.test(message) ? 'it is nested too deeply' : message.replace(/\s+/g, ' ');
}
