/**
 * The table of settings. It alone says which there are: the file's keys, the environment variables, the
 * flags, the default file and the help are all made from it.
 */
import { parseSocketAddress, type SocketAddress } from '../core/address.ts';
import { LOG_LEVELS } from '../core/log.ts';
import { ACCESS_LOGS } from '../model/access.ts';
import { POLICIES } from '../model/policy.ts';
import * as kinds from './kinds.ts';
import { list, optional, record, required, type Shape, scalar } from './shapes.ts';

/** A value as it may be written. */
export interface Example {
  /** In the file. */
  readonly yaml: string;
  /** In a variable or flag. */
  readonly text: string;
}

/** One setting: a leaf of the table. */
export class Setting<T> {
  readonly shape: Shape<T>;
  readonly default: T;
  /** For `--help` and the default file; a line break where one line would be too long. */
  readonly help: string;
  /** Given where the default does not show how a value is written. */
  readonly example: Example | undefined;

  constructor(shape: Shape<T>, initial: T, help: string, example?: Example) {
    this.shape = shape;
    this.default = initial;
    this.help = help;
    this.example = example;
  }
}

function setting<T>(shape: Shape<T>, initial: NoInfer<T>, help: string, example?: Example): Setting<T> {
  return new Setting(shape, initial, help, example);
}

function withoutDefault<T>(shape: Shape<T>, help: string, example: string): Setting<T | undefined> {
  return new Setting<T | undefined>(shape, undefined, help, { yaml: example, text: example });
}

/**
 * What Linkerd takes for opaque by default: SMTP, MySQL, Galera, PostgreSQL, Redis, Elasticsearch's transport, memcached.
 */
const OPAQUE_PORTS: readonly number[] = [25, 587, 3306, 4444, 5432, 6379, 9300, 11_211];

const originalDst = scalar(kinds.choice(['auto', 'required', 'off']));
const ORIGINAL_DST_HELP =
  'Take the destination from iptables: auto (the local address where there was no redirect), required, off.';

/** Every setting, nested as in the file. */
export const SETTINGS = {
  workload: {
    namespace: setting(scalar(kinds.dnsLabel), 'default', 'Namespace of the workload beside this proxy.'),
    serviceAccount: setting(scalar(kinds.dnsDomain), 'default', 'Its service account.'),
    pod: withoutDefault(scalar(kinds.dnsDomain), 'Its pod or machine (default: the host name).', 'web-0'),
    zone: withoutDefault(scalar(kinds.zone), 'The topology zone it runs in.', 'eu-1a'),
  },
  trustDomain: setting(
    scalar(kinds.dnsDomain),
    'cluster.local',
    'Trust domain of the identities of the mesh.',
  ),
  identity: {
    source: setting(
      scalar(kinds.choice(['none', 'files'], { controller: 'it has no controller' })),
      'none',
      'Where our certificate comes from: files, or none: no mutual TLS.',
    ),
    certificate: withoutDefault(
      scalar(kinds.path),
      'With files: our certificate and its intermediates (PEM).',
      'tls.crt',
    ),
    key: withoutDefault(scalar(kinds.path), 'Its key (PEM, not encrypted).', 'tls.key'),
    trustAnchors: withoutDefault(scalar(kinds.path), 'Whom we trust: roots (PEM).', 'ca.crt'),
  },
  discovery: setting(
    list(
      record(
        {
          source: required(
            kinds.choice(['file'], {
              dns: 'it has file discovery only',
              kubernetes: 'it has file discovery only',
              consul: 'it has file discovery only',
              controller: 'it has file discovery only',
            }),
          ),
          path: required(kinds.path),
        },
        ['source', ':', 'path'],
      ),
    ),
    [],
    'Where services are learned from, asked in order.',
    { yaml: '{ source: file, path: ./mesh.d }', text: 'file:./mesh.d' },
  ),
  outbound: {
    listen: setting(
      list(scalar(kinds.fixedListen)),
      addresses('127.0.0.1:4140', '[::1]:4140'),
      'Where iptables redirects outgoing connections to; ip6tables lands on ::1. [] for none.',
    ),
    originalDst: setting(originalDst, 'auto', ORIGINAL_DST_HELP),
    requireIdentity: setting(scalar(kinds.flag), false, 'Refuse endpoints without an identity.'),
    multiplex: setting(
      scalar(kinds.flag),
      true,
      'Send HTTP/1 requests to sidecars that take it as streams of shared HTTP/2 connections.',
    ),
    unknown: setting(
      scalar(kinds.choice(['forward', 'refuse'])),
      'forward',
      'A destination no source knows: forward it as it came, or refuse it.',
    ),
    opaquePorts: setting(
      list(scalar(kinds.port)),
      OPAQUE_PORTS,
      'Destination ports that do not speak HTTP: their endpoints are dialled at once.',
    ),
    discoveryTimeout: setting(
      // Below 10 ms a look-up loses against scheduling; above 10 minutes every client has given up.
      scalar(kinds.duration('10ms', '10m')),
      3000,
      'How long a connection waits for discovery before it is refused.',
    ),
    listeners: setting(
      list(
        record({ listen: required(kinds.freeListen), service: required(kinds.service) }, [
          'listen',
          '=',
          'service',
        ]),
      ),
      [],
      'Explicit listeners, which need no iptables: whoever connects is taken to the service.',
      {
        yaml: '[ { listen: 127.0.0.1:5000, service: payments.default:8080 } ]',
        text: '127.0.0.1:5000=payments.default:8080',
      },
    ),
  },
  inbound: {
    listen: setting(
      list(scalar(kinds.fixedListen)),
      addresses('0.0.0.0:4143', '[::]:4143'),
      'Where iptables redirects incoming connections to. [] for none.',
    ),
    originalDst: setting(originalDst, 'auto', ORIGINAL_DST_HELP),
    defaultPolicy: setting(
      scalar(kinds.choice(POLICIES)),
      'all-unauthenticated',
      `Who may connect to ports without a policy:\n${POLICIES.join(', ')}.`,
    ),
    clusterNetworks: setting(list(scalar(kinds.cidr)), [], 'The networks the cluster-* policies mean.', {
      yaml: '[ 10.0.0.0/8, "fd00::/8" ]',
      text: '10.0.0.0/8,fd00::/8',
    }),
    opaquePorts: setting(
      list(scalar(kinds.port)),
      OPAQUE_PORTS,
      'Application ports that do not speak HTTP, many with a server that speaks\nfirst: the application is dialled at once, and HTTP is not looked for.',
    ),
    ports: setting(
      list(
        record(
          {
            listen: required(kinds.freeListen),
            port: required(kinds.port),
            policy: optional(kinds.choice(POLICIES)),
          },
          ['listen', '=', 'port', '/', 'policy'],
        ),
      ),
      [],
      'Explicit listeners, which need no iptables, for ports of the application on loopback.',
      {
        yaml: '[ { listen: 0.0.0.0:18080, port: 8080, policy: deny } ]',
        text: '0.0.0.0:18080=8080/deny',
      },
    ),
  },
  admin: {
    listen: setting(
      list(scalar(kinds.freeListen)),
      addresses('0.0.0.0:4191', '[::]:4191'),
      'Probes and metrics for everyone, the rest for loopback with the token. [] for none.',
    ),
    tokenFile: withoutDefault(
      scalar(kinds.path),
      'Where the admin token is written (default: a file of this user, named after the port).',
      '/run/ferrule/admin-token',
    ),
  },
  workers: setting(scalar(kinds.workers), 1, 'Threads that carry traffic, 1 to 64; auto: one per core.'),
  shutdown: {
    // A day: the longest anybody lets a stateful pod drain.
    grace: setting(
      scalar(kinds.duration('0s', '24h')),
      30_000,
      'After SIGTERM: how long open connections may last. It includes drainDelay.',
    ),
    drainDelay: setting(
      scalar(kinds.duration('0s', '24h')),
      5000,
      'After SIGTERM: how long inbound still takes new connections, while the news spreads.',
    ),
  },
  log: {
    level: setting(
      scalar(kinds.choice(LOG_LEVELS)),
      'info',
      `The log on standard error: ${LOG_LEVELS.join(', ')}.`,
    ),
    format: setting(scalar(kinds.choice(['text', 'json'])), 'text', 'text or json, one line per event.'),
    access: setting(
      scalar(kinds.choice(ACCESS_LOGS)),
      'off',
      'The access log on standard output, one line per HTTP request of either side:\noff, apache (combined format), json.',
    ),
  },
} as const;

function addresses(...texts: readonly string[]): readonly SocketAddress[] {
  return texts.map((text) => parseSocketAddress(text) as SocketAddress);
}

/** The values of the settings in a table, nested alike. */
export type Values<S> = {
  readonly [K in keyof S]: S[K] extends Setting<infer T> ? T : Values<S[K]>;
};

/** One setting with its names. */
export interface NamedSetting {
  /** As in the file: `outbound.listen`. */
  readonly name: string;
  /** Environment variable: `FERRULE_OUTBOUND_LISTEN`. */
  readonly env: string;
  /** Flag without its dashes: `outbound-listen`. */
  readonly flag: string;
  readonly setting: Setting<unknown>;
}

/** Every setting in the order of the file. */
export const NAMED_SETTINGS: readonly NamedSetting[] = Object.entries(SETTINGS).flatMap(([key, entry]) =>
  entry instanceof Setting
    ? [named(key, entry)]
    : Object.entries(entry).map(([inner, leaf]) => named(`${key}.${inner}`, leaf)),
);

function named(name: string, entry: Setting<unknown>): NamedSetting {
  const words = name.replace(/[A-Z]/g, (letter) => `-${letter}`).replace('.', '-');
  return {
    name,
    env: `FERRULE_${words.replaceAll('-', '_').toUpperCase()}`,
    flag: words.toLowerCase(),
    setting: entry,
  };
}
