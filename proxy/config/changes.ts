/** What a changed configuration changes. */
import { isDeepStrictEqual } from 'node:util';
import { type Config, describeConfig, type Json } from './config.ts';

/** Names of the settings that differ, dotted as in the file; `inbound.ports` where any of its policies does. */
export function changedSettings(before: Config, after: Config): string[] {
  return differing(describeConfig(before), describeConfig(after), '').filter((name) => name !== 'file');
}

function differing(one: Json, other: Json, path: string): string[] {
  if (isDeepStrictEqual(one, other)) return [];
  if (!isRecord(one) || !isRecord(other)) return [path];
  return Object.keys({ ...one, ...other }).flatMap((key) =>
    differing(one[key] ?? null, other[key] ?? null, path === '' ? key : `${path}.${key}`),
  );
}

function isRecord(value: Json): value is { readonly [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
