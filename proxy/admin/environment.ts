/** What `/env.json` shows of the environment. */

/** Names whose values are hidden. Rather too many: a hidden path is an inconvenience, a shown password an incident. */
const SECRET_NAME = /token|secret|passw|pwd|key|credential|auth|cookie|private|signature|dsn/i;

/** A password in a URL, whatever the variable is called. */
const URL_PASSWORD = /^([a-z][a-z0-9+.-]*:\/\/)[^/?#]*@/i;

const HIDDEN = '[redacted]';

/**
 * The FERRULE_* variables, or the ones that are named; null for those that are not set. Secrets are redacted in either case.
 * @param query names separated by `&`, percent-encoded; empty for FERRULE_*
 */
export function describeEnvironment(env: NodeJS.ProcessEnv, query: string): Record<string, string | null> {
  const names =
    query === ''
      ? Object.keys(env)
          .filter((name) => name.startsWith('FERRULE_'))
          .sort()
      : [...new URLSearchParams(query).keys()];
  return Object.fromEntries(names.map((name) => [name, shown(name, env[name])]));
}

function shown(name: string, value: string | undefined): string | null {
  if (value === undefined) return null;
  if (SECRET_NAME.test(name) || value.includes('PRIVATE KEY-----')) return HIDDEN;
  return value.replace(URL_PASSWORD, `$1${HIDDEN}@`);
}
