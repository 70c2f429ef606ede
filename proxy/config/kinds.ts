/**
 * The kinds of single values a setting may have. Every value is text when it comes in, whether from YAML, the
 * environment or a flag, so that a value means the same wherever it is written (`off` is never a boolean,
 * `010` never a number).
 */
import { resolve } from 'node:path';
import { Cidr, parsePort, parseSocketAddress, type SocketAddress } from '../core/address.ts';

/** Why a text is not a value of its kind: a sentence about the setting, such as `must be …, is "x"`. */
export class Mistake {
  readonly message: string;

  constructor(message: string) {
    this.message = message;
  }
}

/** A kind of single value. */
export interface Kind<T> {
  /** What is allowed, completing "must be …". */
  readonly allowed: string;
  /** Reads `text`, which is trimmed. Relative paths start from the folder `base`. */
  parse(text: string, base: string): T | Mistake;
  /** Text that `parse` turns into `value` again. */
  format(value: T): string;
}

/** Longest stretch of a wrong value that is repeated to the user. */
const QUOTED_LENGTH = 60;

/** `text` in quotes, cut short, control characters escaped. */
export function quote(text: string): string {
  return JSON.stringify(text.length > QUOTED_LENGTH ? `${text.slice(0, QUOTED_LENGTH)}…` : text);
}

/** A kind whose `parse` returns undefined for everything that is not `allowed`. */
function kind<T>(
  allowed: string,
  parse: (text: string, base: string) => T | undefined,
  format: (value: T) => string = String,
): Kind<T> {
  const refuse = (text: string) => new Mistake(`must be ${allowed}, is ${quote(text)}`);
  return { allowed, parse: (text, base) => parse(text, base) ?? refuse(text), format };
}

/** One of `values`. `later` are values of Ferrule's design that this version lacks, with the reason. */
export function choice<const T extends string>(
  values: readonly T[],
  later: Readonly<Record<string, string>> = {},
): Kind<T> {
  const oneOf = kind<T>(values.length === 1 ? values[0] : `one of ${values.join(', ')}`, (text) =>
    values.find((value) => value === text),
  );
  return {
    ...oneOf,
    parse: (text, base) =>
      Object.hasOwn(later, text)
        ? new Mistake(`${quote(text)} is not in this version (${later[text]}); allowed: ${values.join(', ')}`)
        : oneOf.parse(text, base),
  };
}

/** `true` or `false`. */
export const flag: Kind<boolean> = kind('true or false', (text) =>
  text === 'true' || text === 'false' ? text === 'true' : undefined,
);

/** A port of 1 to 65535. */
export const port: Kind<number> = kind('a port of 1 to 65535', (text) => parsePort(text) || undefined);

const UNIT_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** A duration in milliseconds, written `500ms`, `3s`, `2m` or `1h`, from `min` to `max` (written alike). */
export function duration(min: string, max: string): Kind<number> {
  const shortest = parseDuration(min) ?? 0;
  const longest = parseDuration(max) ?? 0;
  return kind(
    `a duration of ${min} to ${max}, such as 500ms, 3s, 2m or 1h`,
    (text) => {
      const ms = parseDuration(text);
      return ms !== undefined && ms >= shortest && ms <= longest ? ms : undefined;
    },
    formatDuration,
  );
}

function parseDuration(text: string): number | undefined {
  // Nine digits of hours are far above every maximum and still exact in milliseconds.
  const match = /^(\d{1,9})(ms|s|m|h)$/.exec(text);
  return match === null ? undefined : Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS];
}

function formatDuration(ms: number): string {
  if (ms === 0) return '0s';
  for (const unit of ['h', 'm', 's'] as const)
    if (ms % UNIT_MS[unit] === 0) return `${ms / UNIT_MS[unit]}${unit}`;
  return `${ms}ms`;
}

/** The address of a listener that iptables rules or probes know: its port is 1 to 65535. */
export const fixedListen: Kind<SocketAddress> = kind(
  'an address and port of 1 to 65535, such as 127.0.0.1:4140 or "[::1]:4140"',
  (text) => {
    const address = parseSocketAddress(text);
    return address === undefined || address.port === 0 ? undefined : address;
  },
);

/** The address of a listener whose port may be 0: any free one. */
export const freeListen: Kind<SocketAddress> = kind(
  'an address and port, such as 127.0.0.1:5000 or "[::1]:5000" (port 0: any free one)',
  parseSocketAddress,
);

/** A network in prefix notation or a single address. */
export const cidr: Kind<Cidr> = kind('a network such as 10.0.0.0/8 or fd00::/8', (text) => Cidr.parse(text));

/** Number of workers: 1 to 64, or `auto`. Beyond 64 the share of each in listeners and pools is too small. */
export const workers: Kind<number | 'auto'> = kind('auto or a number of 1 to 64', (text) => {
  if (text === 'auto') return text;
  return /^[1-9]\d?$/.test(text) && Number(text) <= 64 ? Number(text) : undefined;
});

/** A path, made absolute. */
export const path: Kind<string> = kind('a path', (text, base) =>
  text === '' || text.includes('\0') ? undefined : resolve(base, text),
);

const LABEL = '[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?';
const LABEL_PATTERN = new RegExp(`^${LABEL}$`);
const DOMAIN_PATTERN = new RegExp(`^${LABEL}(?:\\.${LABEL})*$`);
const SERVICE_PATTERN = new RegExp(`^${LABEL}\\.${LABEL}:([^:]+)$`);

/** A DNS label (RFC 1123 section 2.1): what Kubernetes allows as the name of a namespace. */
export const dnsLabel: Kind<string> = kind(
  'a lower-case name of letters, digits and inner hyphens, at most 63 long',
  (text) => (LABEL_PATTERN.test(text) ? text : undefined),
);

/** A DNS domain (RFC 1123 section 2.1): what Kubernetes allows as the name of a service account or pod. */
export const dnsDomain: Kind<string> = kind('a lower-case DNS name such as cluster.local', (text) =>
  text.length <= 253 && DOMAIN_PATTERN.test(text) ? text : undefined,
);

/** A topology zone: a Kubernetes label value. */
export const zone: Kind<string> = kind(
  'letters, digits and inner hyphens, dots or underscores, at most 63 long',
  (text) => (/^[A-Za-z0-9](?:[-._A-Za-z0-9]{0,61}[A-Za-z0-9])?$/.test(text) ? text : undefined),
);

/** A service as a target key: `name.namespace:port`, a port's number or name (RFC 6335 section 5.1). */
export const service: Kind<string> = kind(
  'name.namespace:port, such as payments.default:8080 or payments.default:http',
  (text) => {
    const portText = SERVICE_PATTERN.exec(text)?.[1];
    if (portText === undefined) return undefined;
    const named = /^(?=.*[a-z])[a-z0-9](?:-?[a-z0-9]){0,14}$/.test(portText) && portText.length <= 15;
    return named || parsePort(portText) ? text : undefined;
  },
);
