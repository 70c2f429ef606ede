/**
 * Counts what a run of tap proved: `node scripts/tally.mjs FILE STEP=STATUS...` reads the TAP that
 * `tap --reporter=tap` wrote, prints what was skipped and what failed, and alone on its last line
 * `N passed, N failed`. Exits 1 when anything failed, nothing ran, or a step ended with another status than 0.
 *
 * tap's own summary is not enough: a file that crashed, could not be loaded or asserted nothing adds no failed assertion.
 */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Parser } from 'tap-parser';

/**
 * @param {string} tap output of a run over any number of test files
 * @returns {{ passed: number, failed: string[], skipped: string[] }} assertions; the lists hold their full names
 */
export function tally(tap) {
  const counts = { passed: 0, failed: [], skipped: [] };
  const parser = new Parser();
  count(parser, [], counts);
  parser.on('complete', (results) => {
    if (!results.ok && counts.failed.length === 0) counts.failed.push('the output of tap ends early');
  });
  parser.end(tap);
  if (total(counts) === 0) counts.failed.push('no test ran');
  return counts;
}

/** Adds what `parser` will see to `counts`; `path` names the subtests around it. */
function count(parser, path, counts) {
  let before = counts;
  parser.on('child', (child) => {
    before = snapshot(counts);
    count(child, [...path, child.name], counts);
  });
  parser.on('assert', (result) => {
    const name = [...path, result.name].join(' > ');
    if (!result.closingTestPoint) countAssertion(result, name, counts);
    else if (!result.ok && counts.failed.length === before.failed) {
      counts.failed.push(`${name}: ended badly (crash, timeout, syntax error or broken plan)`);
    } else if (result.ok && total(counts) === before.total) {
      // What tap says of a file without assertions; other reasons are the author's.
      if (!result.skip || result.skip === 'no tests found') counts.failed.push(`${name}: asserts nothing`);
      else countAssertion(result, name, counts);
    }
  });
}

function countAssertion(result, name, counts) {
  if (result.skip || result.todo) counts.skipped.push(`${name}: ${result.skip || result.todo}`);
  else if (result.ok) counts.passed++;
  else counts.failed.push(name);
}

function snapshot(counts) {
  return { failed: counts.failed.length, total: total(counts) };
}

function total(counts) {
  return counts.passed + counts.failed.length + counts.skipped.length;
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const [file, ...steps] = process.argv.slice(2);
  const { passed, failed, skipped } = tally(existsSync(file) ? readFileSync(file, 'utf8') : '');
  for (const step of steps) {
    const [name, status] = step.split('=');
    // A failed assertion ends tap with 1: that is counted already.
    if (status !== '0' && !(name === 'tests' && failed.length > 0))
      failed.push(`${name} ended with status ${status}`);
  }
  for (const name of skipped) console.log(`skipped: ${name}`);
  for (const name of failed) console.log(`failed: ${name}`);
  console.log(`${passed} passed, ${failed.length} failed`);
  process.exitCode = failed.length === 0 ? 0 : 1;
}
