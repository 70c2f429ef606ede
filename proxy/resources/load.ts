/** Text of a YAML or JSON file to resources, with every mistake in it. */
import type { Document, LineCounter, Node, Pair } from 'yaml';
import { dnsLabel, dnsName } from './checks.ts';
import { honouredKind, isUnusedKind } from './kinds.ts';
import { isObject, ObjectReader, type Path, type Report } from './reader.ts';
import type { Resource } from './types.ts';

/** What one file holds. */
export interface LoadedFile {
  /** Not to be used when there are mistakes: what is missing could be what keeps a connection encrypted. */
  readonly resources: readonly Resource[];
  /**
   * Each complete for its reader: `mesh.d/web.yaml:12: Service default/web: spec.ports[0].port must be …`.
   */
  readonly mistakes: readonly string[];
  /** What the file says without effect, in the same form. */
  readonly warnings: readonly string[];
  /** How many objects of kinds that this version does not use, by kind. */
  readonly unused: ReadonlyMap<string, number>;
}

type Yaml = typeof import('yaml');

/**
 * Reads the documents of `text`, which came from `file` (named in messages as given). Multi-document YAML,
 * JSON and Kubernetes' `kind: List` are understood; excerpts that are no Kubernetes objects are warned of and
 * left out.
 */
export async function loadResources(text: string, file: string): Promise<LoadedFile> {
  // Loaded here because it costs 13 MB and most proxies ask something else for their targets.
  const yaml = await import('yaml');
  return new FileReader(yaml, text, file).read();
}

class FileReader {
  private readonly yaml: Yaml;
  private readonly text: string;
  private readonly file: string;
  private readonly lines: LineCounter;
  private readonly resources: Resource[] = [];
  private readonly mistakes: string[] = [];
  private readonly warnings: string[] = [];
  private readonly unused = new Map<string, number>();

  constructor(yaml: Yaml, text: string, file: string) {
    this.yaml = yaml;
    this.text = text;
    this.file = file;
    this.lines = new yaml.LineCounter();
  }

  read(): LoadedFile {
    for (const document of this.parse()) this.readDocument(document);
    const lineOf = (remark: string): number => Number.parseInt(remark.slice(this.file.length + 1), 10) || 0;
    const byLine = (a: string, b: string): number => lineOf(a) - lineOf(b);
    const { resources, mistakes, warnings, unused } = this;
    return { resources, mistakes: mistakes.sort(byLine), warnings: warnings.sort(byLine), unused };
  }

  /** The documents; none when the syntax is wrong, which was reported. */
  private parse(): readonly Document.Parsed[] {
    const documents: Document.Parsed[] = [];
    const problems: string[] = [];
    try {
      const options = { lineCounter: this.lines, prettyErrors: false, merge: true } as const;
      for (const document of this.yaml.parseAllDocuments(this.text, options)) {
        documents.push(document);
        for (const { message, pos } of [...document.errors, ...document.warnings]) {
          problems.push(
            `${this.file}:${this.lineAt(pos[0])}: not valid YAML: ${message.replace(/\s+/g, ' ')}`,
          );
        }
      }
    } catch (error) {
      // The library throws where it should report when brackets are nested thousands deep.
      problems.push(`${this.file}: cannot be read as YAML: ${reasonOf(error)}`);
    }
    if (problems.length === 0) return documents;
    const excerpt = !/^[\s-]*["']?(apiVersion|kind)["']?\s*:/m.test(this.text);
    if (excerpt) this.warnings.push(`${problems[0]}; left out, as nothing in it is a Kubernetes object`);
    else this.mistakes.push(...problems);
    return [];
  }

  private readDocument(document: Document.Parsed): void {
    let value: unknown;
    try {
      value = document.toJS();
    } catch (error) {
      // An alias to nothing, or a bomb of aliases.
      const line = this.lineAt(document.range[0]);
      this.mistakes.push(`${this.file}:${line}: not valid YAML: ${reasonOf(error)}`);
      return;
    }
    if (value !== null && value !== undefined) this.readValue(value, [], document);
  }

  private readValue(value: unknown, path: Path, document: Document.Parsed): void {
    const report: Report = {
      subject: 'document',
      place: (inner) => `${this.file}:${this.lineOf(document, [...path, ...inner])}`,
      mistakes: this.mistakes,
      warnings: this.warnings,
    };
    if (!isObject(value) || (value.apiVersion === undefined && value.kind === undefined)) {
      this.warnings.push(
        `${report.place([])}: neither apiVersion nor kind: not a Kubernetes object, left out`,
      );
      return;
    }
    const object = new ObjectReader(value, [], report);
    const apiVersion = object.string('apiVersion', undefined, true);
    const kind = object.string('kind', undefined, true);
    if (apiVersion === undefined || kind === undefined) return;
    if (apiVersion === 'v1' && kind === 'List') {
      const items = value.items ?? [];
      if (!Array.isArray(items)) object.mistake('items', 'must be a list');
      else
        for (const [index, item] of items.entries())
          this.readValue(item, [...path, 'items', index], document);
      return;
    }
    this.readObject(object, apiVersion, kind, report);
  }

  private readObject(object: ObjectReader, apiVersion: string, kind: string, report: Report): void {
    const honoured = honouredKind(apiVersion, kind);
    if (honoured === undefined) {
      if (isUnusedKind(apiVersion, kind)) this.unused.set(kind, (this.unused.get(kind) ?? 0) + 1);
      else this.warnings.push(`${object.place}: unknown kind ${kind} (${apiVersion}), left out`);
      return;
    }
    report.subject = kind;
    if (apiVersion !== honoured.apiVersion) {
      object.mistake('apiVersion', `must be ${honoured.apiVersion}, is ${apiVersion}`);
      return;
    }
    const metadata = object.object('metadata', true);
    const name = metadata?.string('name', dnsName, true);
    const namespace = metadata?.string('namespace', dnsLabel) ?? 'default';
    if (name === undefined) return;
    report.subject = `${kind} ${namespace}/${name}`;
    this.resources.push(honoured.read(object, namespace, name));
  }

  /** The line of the field at `path`, or of the nearest thing around it that was written. */
  private lineOf(document: Document.Parsed, path: Path): number {
    const { yaml } = this;
    let node: Node | null | undefined = document.contents;
    let offset = node?.range?.[0] ?? document.range[0];
    for (const step of path) {
      if (yaml.isAlias(node)) node = node.resolve(document);
      if (yaml.isSeq<Node>(node)) node = node.items[Number(step)];
      else if (yaml.isMap<Node, Node | null>(node)) {
        const pair: Pair<Node, Node | null> | undefined = node.items.find(
          (item) => yaml.isScalar(item.key) && String(item.key.value) === step,
        );
        if (pair === undefined) break;
        offset = pair.key.range?.[0] ?? offset;
        node = pair.value;
        continue;
      } else break;
      offset = node?.range?.[0] ?? offset;
    }
    return this.lineAt(offset);
  }

  private lineAt(offset: number): number {
    return Math.max(1, this.lines.linePos(offset).line);
  }
}

function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return /call stack/.test(text) ? 'it is nested too deeply' : text.replace(/\s+/g, ' ');
}
