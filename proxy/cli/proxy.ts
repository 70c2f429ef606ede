/** `ferrule proxy`: runs the sidecar. */

import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { printDefaultConfig } from '../config/print.ts';
import { NAMED_SETTINGS, type NamedSetting } from '../config/settings.ts';
import { EXIT, UserError } from '../core/errors.ts';
import type { Resource } from '../resources/types.ts';
import {
  type Command,
  type CommandFace,
  formatUsage,
  type OptionSpec,
  type ParsedOptions,
  parseOptions,
} from './command.ts';

const FACE: CommandFace<Record<string, OptionSpec>> = {
  name: 'proxy',
  summary: 'run the sidecar proxy',
  description: `
Carries the TCP traffic of the application beside it until SIGTERM or SIGINT. The configuration is one YAML
file, overridden by environment variables (--outbound-listen is FERRULE_OUTBOUND_LISTEN), overridden by these
flags. Every mistake in it is reported before anything is bound, with exit status ${EXIT.usage}.

A LIST is separated by commas; [] is the empty list. Durations are written 500ms, 3s, 2m or 1h.`,
  options: {
    config: { short: 'c', value: 'FILE', help: 'the configuration file (FERRULE_CONFIG)' },
    'print-config': { help: 'print the complete default configuration with comments, and end' },
    'print-hosts': {
      help: 'print lines for /etc/hosts that give services with a virtual IP their names, and end',
    },
    ...Object.fromEntries(NAMED_SETTINGS.map((named) => [named.flag, settingOption(named)])),
  },
  examples: [
    'ferrule proxy --print-config > ferrule.yaml',
    'ferrule proxy --config ferrule.yaml --log-level debug',
    'ferrule proxy --config ferrule.yaml --print-hosts >> /etc/hosts',
    'ferrule proxy --discovery file:./mesh.d --outbound-listeners 127.0.0.1:5000=payments.default:8080',
  ],
};

/** The command, for the registry of `ferrule.ts`. */
export const command: Command = {
  name: FACE.name,
  summary: FACE.summary,
  usage: formatUsage(FACE),
  run,
};

async function run(args: readonly string[]): Promise<number> {
  const options = parseOptions(FACE, args);
  if (options.flag('print-config')) {
    process.stdout.write(printDefaultConfig());
    return EXIT.ok;
  }
  const load = () =>
    loadConfig({ file: options.text('config'), env: process.env, flags: givenSettings(options) });
  const config = await load();
  if (options.flag('print-hosts')) return printHosts(config);
  const { runProxy } = await import('../main.ts');
  const status = await runProxy(config, load);
  // Not through the queue of standard output, as for other commands: there is only what nobody reads of the access log.
  process.exit(status);
}

/** All or nothing: a hosts file that lacks services sends their traffic past the proxy. */
async function printHosts(config: Config): Promise<number> {
  if (config.discovery.length === 0) {
    throw new UserError(
      '--print-hosts needs a discovery source, such as --discovery file:./mesh.d',
      EXIT.usage,
    );
  }
  const { FileSource } = await import('../control/file-source.ts');
  const { hostsLines } = await import('../resources/hosts.ts');
  const { namespace } = config.workload;
  const resources: Resource[] = [];
  for (const { path } of config.discovery) {
    const source = new FileSource(path, { namespace });
    await source.start();
    source.close();
    const { error, synced } = source.health;
    if (error !== undefined || !synced) throw new UserError(error ?? `${path} keeps changing; try again`);
    resources.push(...source.resources);
  }
  process.stdout.write(
    hostsLines(resources, namespace)
      .map((line) => `${line}\n`)
      .join(''),
  );
  return EXIT.ok;
}

function givenSettings(options: ParsedOptions<Record<string, OptionSpec>>): Record<string, string> {
  const flags: Record<string, string> = {};
  for (const { flag, setting } of NAMED_SETTINGS) {
    const given = options.list(flag);
    if (given.length > 0) flags[flag] = setting.shape.isList ? given.join(',') : given[given.length - 1];
  }
  return flags;
}

function settingOption({ setting }: NamedSetting): OptionSpec {
  const { shape, help, default: initial, example } = setting;
  const like = example === undefined ? '' : `, such as ${example.text}`;
  const standard = initial === undefined ? '' : ` (default ${asText(shape.format(initial), initial)})`;
  const text = `${help[0].toLowerCase()}${help.slice(1).replace(/\.$/, '')}${like}${standard}`;
  return shape.isList ? { value: 'LIST', multiple: true, help: text } : { value: 'VALUE', help: text };
}

/** A default as it would be given here: lists of addresses are the only ones YAML writes differently. */
function asText(formatted: string, initial: unknown): string {
  return Array.isArray(initial) && initial.length > 0 ? initial.join(',') : formatted;
}
