/** The default configuration file, complete and commented, made from the table of settings. */
import { NAMED_SETTINGS, type NamedSetting } from './settings.ts';

const HEADER = `# Ferrule's configuration: every setting with its default.
#
# Each can also be given as an environment variable, which wins over this file, or as a flag, which wins over
# both. Lists accept a single value; in variables and flags their items are separated by commas, and [] is the
# empty list. Durations are written 500ms, 3s, 2m or 1h. Relative paths start at the folder of this file.
`;

const SECTIONS: Readonly<Record<string, string>> = {
  workload: 'Who the application beside this proxy is.',
  identity: 'Who we prove to be.',
  outbound: 'Connections of the application to others.',
  inbound: 'Connections of others to the application.',
  admin: 'The admin server.',
  shutdown: 'What happens after SIGTERM.',
  log: 'What is written to standard error, and of requests to standard output.',
};

/** The text of `ferrule proxy --print-config`: a file that, loaded, changes nothing. */
export function printDefaultConfig(): string {
  let text = HEADER;
  let section = '';
  for (const named of NAMED_SETTINGS) {
    const [key, inner] = named.name.split('.');
    if (inner !== undefined && key !== section) text += `\n# ${SECTIONS[key]}\n${key}:\n`;
    if (inner === undefined) text += '\n';
    text += printSetting(named, inner ?? key, inner === undefined ? '' : '  ');
    section = key;
  }
  return text;
}

function printSetting({ env, flag, setting }: NamedSetting, key: string, indent: string): string {
  const { help, default: initial, example, shape } = setting;
  const lines = [...help.split('\n').map((line) => `# ${line}`), `# ${env}, --${flag}`];
  if (initial === undefined) lines.push(`# ${key}: ${example?.yaml}`);
  else if (example !== undefined) lines.push(`# For example: ${example.yaml}`);
  if (initial !== undefined) lines.push(`${key}: ${shape.format(initial)}`);
  return lines.map((line) => `${indent}${line}\n`).join('');
}
