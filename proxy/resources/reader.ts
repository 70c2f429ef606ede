/**
 * Reads untyped objects field by field, reporting every mistake and every field nobody asked for. Not a
 * schema library: half of the work here is telling people by name and line which of their fields has no
 * effect.
 */

/** Keys and indices from the top of a document to a field. */
export type Path = readonly (string | number)[];

/** Where remarks about one document go. */
export interface Report {
  /** What the remarks are about: `Service default/web`. */
  subject: string;
  /** Where a field was written, as printed: `mesh.d/web.yaml:12`. */
  readonly place: (path: Path) => string;
  /** What makes the document unusable. */
  readonly mistakes: string[];
  /** What has no effect. */
  readonly warnings: string[];
}

/** A check of a text; returns what it must be (`must be an IP address`) or undefined when it is fine. */
export type TextCheck = (text: string) => string | undefined;

/** One object being read. Absent and null fields are the same, as in the Kubernetes API. */
export class ObjectReader {
  readonly path: Path;
  private readonly value: Readonly<Record<string, unknown>>;
  private readonly report: Report;
  private readonly seen = new Set<string>();

  constructor(value: Readonly<Record<string, unknown>>, path: Path, report: Report) {
    this.value = value;
    this.path = path;
    this.report = report;
  }

  /** Where this object was written. */
  get place(): string {
    return this.report.place(this.path);
  }

  /** The field as it is; undefined when absent or null. */
  take(name: string): unknown {
    this.seen.add(name);
    return this.has(name) ? (this.value[name] ?? undefined) : undefined;
  }

  has(name: string): boolean {
    return Object.hasOwn(this.value, name);
  }

  /** Reports that `name` (or the object itself, without one) is wrong. */
  mistake(name: string | undefined, text: string): void {
    this.report.mistakes.push(this.remark(name, text));
  }

  /** Reports that `name` has no effect or not the usual one. */
  warn(name: string, text = 'is not honoured by this version'): void {
    this.report.warnings.push(this.remark(name, text));
  }

  /** A text; a mistake when it is something else, fails `check`, or is missing where `required`. */
  string(name: string, check?: TextCheck, required = false): string | undefined {
    const value = this.take(name);
    if (value === undefined) {
      if (required) this.mistake(name, 'is required');
      return undefined;
    }
    if (typeof value !== 'string') {
      this.mistake(name, `must be a string, is ${show(value)}`);
      return undefined;
    }
    const wrong = check?.(value);
    if (wrong === undefined) return value;
    this.mistake(name, `${wrong}, is ${show(value)}`);
    return undefined;
  }

  /** A whole number from `min` to `max`; a mistake otherwise, or when missing where `required`. */
  integer(name: string, min: number, max: number, required = false): number | undefined {
    const value = this.take(name);
    if (value === undefined) {
      if (required) this.mistake(name, 'is required');
      return undefined;
    }
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
    const quoted = typeof value === 'string' && value.trim() !== '' && !Number.isNaN(Number(value));
    this.mistake(name, `must be ${min} to ${max}, is ${show(value)}${quoted ? ' (a string)' : ''}`);
    return undefined;
  }

  boolean(name: string): boolean | undefined {
    const value = this.take(name);
    if (value === undefined || typeof value === 'boolean') return value;
    this.mistake(name, `must be true or false, is ${show(value)}`);
    return undefined;
  }

  /** A nested object; a mistake when it is something else, or missing where `required`. */
  object(name: string, required = false): ObjectReader | undefined {
    const value = this.take(name);
    if (isObject(value)) return new ObjectReader(value, [...this.path, name], this.report);
    if (value !== undefined) this.mistake(name, `must be an object, is ${show(value)}`);
    else if (required) this.mistake(name, 'is required');
    return undefined;
  }

  /** The objects of a list; entries of another type are mistakes. */
  objects(name: string): ObjectReader[] {
    const readers: ObjectReader[] = [];
    for (const [index, value] of this.list(name).entries()) {
      if (isObject(value)) readers.push(new ObjectReader(value, [...this.path, name, index], this.report));
      else {
        const remark = this.remarkAt([...this.path, name, index], `must be an object, is ${show(value)}`);
        this.report.mistakes.push(remark);
      }
    }
    return readers;
  }

  /** The texts of a list; entries of another type, or failing `check`, are mistakes. */
  strings(name: string, check?: TextCheck): string[] {
    const texts: string[] = [];
    for (const [index, value] of this.list(name).entries()) {
      const wrong = typeof value === 'string' ? check?.(value) : 'must be a string';
      if (wrong === undefined) texts.push(value as string);
      else
        this.report.mistakes.push(this.remarkAt([...this.path, name, index], `${wrong}, is ${show(value)}`));
    }
    return texts;
  }

  /** A map of texts, such as labels; empty when absent. */
  stringMap(name: string): Readonly<Record<string, string>> {
    const object = this.object(name);
    const map: Record<string, string> = {};
    if (object === undefined) return map;
    for (const key of object.keys()) {
      const text = object.string(key);
      // A plain assignment of `__proto__` would not make a property.
      if (text !== undefined) Object.defineProperty(map, key, { value: text, enumerable: true });
    }
    return map;
  }

  keys(): string[] {
    return Object.keys(this.value);
  }

  /** Reports each field that was neither read nor is `inert`, which is to say without meaning for traffic. */
  unhonoured(inert: readonly string[] = []): void {
    for (const key of this.keys()) {
      if (!this.seen.has(key) && !inert.includes(key)) this.warn(key);
    }
  }

  private list(name: string): readonly unknown[] {
    const value = this.take(name);
    if (Array.isArray(value)) return value;
    if (value !== undefined) this.mistake(name, `must be a list, is ${show(value)}`);
    return [];
  }

  private remark(name: string | undefined, text: string): string {
    return this.remarkAt(name === undefined ? this.path : [...this.path, name], text);
  }

  private remarkAt(path: Path, text: string): string {
    const field = path.length === 0 ? '' : `${formatPath(path)} `;
    return `${this.report.place(path)}: ${this.report.subject}: ${field}${text}`;
  }
}

/** True for a map, as opposed to a list, a scalar or null. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * `spec.ports[0].port`; keys that are no plain names are quoted:
 * `metadata.annotations["ferrule.dev/weight"]`.
 */
function formatPath(path: Path): string {
  let text = '';
  for (const step of path) {
    if (typeof step === 'number') text += `[${step}]`;
    else if (/^\w+$/.test(step)) text += text === '' ? step : `.${step}`;
    else text += `[${JSON.stringify(step)}]`;
  }
  return text;
}

/** A value as a message shows it. */
function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  // 60 characters show any sane value and keep a pasted document out of the log.
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}
