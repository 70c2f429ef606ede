/** The engine's tests and its fuzzer once more, on a build that reports every stray byte, leak and undefined behaviour. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { buildNative } from '../../scripts/bootstrap.mjs';
import { missing } from '../support/peers.ts';
import { findSanitizer, runSanitized } from '../support/sanitizer.ts';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const ROOT = join(HERE, '..', '..');
const SELF = 'engine-sanitizers.test.ts';

/** Enough to meet every operation a hundred times; three times as slow here as without sanitizers. */
const FUZZ_ROUNDS = '30';

t.setTimeout(900_000);

/** An addon with one fault per kind of report, so that this file proves in every run that it can fail. */
const FAULTY = `
#include <node_api.h>
#include <climits>
#include <cstdlib>
#include <cstring>
NAPI_MODULE_INIT() {
  (void)exports;
  const char* fault = std::getenv("FERRULE_FAULT");
  volatile int large = INT_MAX;
  volatile char* bytes = new char[64];
  if (std::strcmp(fault, "overflow") == 0) bytes[64] = 1;
  if (std::strcmp(fault, "undefined") == 0) large = large + 1;
  if (std::strcmp(fault, "leak") == 0) bytes = nullptr;
  delete[] bytes;
  return nullptr;
}
`;

const FAULTS: Record<string, RegExp | undefined> = {
  none: undefined,
  overflow: /AddressSanitizer: heap-buffer-overflow|ERROR: AddressSanitizer/,
  undefined: /signed integer overflow/,
  leak: /LeakSanitizer/,
};

t.test('the sanitizers report what they are for', async (t) => {
  const library = sanitizer(t);
  if (library === undefined) return;
  const folder = temporaryFolder(t);
  const source = join(folder, 'faulty.cc');
  const addon = join(folder, 'faulty.node');
  writeFileSync(source, FAULTY);
  const headers = join(ROOT, 'node_modules', `node-linux-${process.arch}`, 'include', 'node');
  const flags = [
    '-std=c++20',
    '-shared',
    '-fPIC',
    '-O0',
    '-fsanitize=address,undefined',
    '-fno-sanitize-recover=all',
  ];
  const compiled = spawnSync('g++', [...flags, '-isystem', headers, source, '-o', addon], {
    encoding: 'utf8',
  });
  t.equal(compiled.status, 0, compiled.stderr);
  const script = join(folder, 'faulty.cjs');
  writeFileSync(script, `require(${JSON.stringify(addon)})`);
  for (const [fault, report] of Object.entries(FAULTS)) {
    const { status, output, findings } = await runSanitized(library, [script], { FERRULE_FAULT: fault });
    if (report === undefined) {
      t.strictSame([status, ...findings], [0], `no fault, no report: ${output}`);
    } else {
      t.not(status, 0, `${fault} fails the process`);
      t.match(findings.join('\n'), report, `${fault} is reported: ${output}`);
    }
  }
});

t.test('what a sanitized program starts is not sanitized', async (t) => {
  const library = sanitizer(t);
  if (library === undefined) return;
  const script = join(temporaryFolder(t), 'maps.cjs');
  writeFileSync(
    script,
    `process.stdout.write(require('node:child_process').execFileSync('cat', ['/proc/self/maps']))`,
  );
  const { status, output } = await runSanitized(library, [script], {});
  t.equal(status, 0, output);
  t.notMatch(output, /libasan/);
  t.match(output, /\blibc\b/, 'the map of a program');
});

const files = readdirSync(HERE).filter((name) => /^engine.*\.test\.ts$/.test(name) && name !== SELF);

for (const path of [...files.map((name) => join(HERE, name)), join(ROOT, 'test', 'fuzz', 'engine.test.ts')]) {
  t.test(path.slice(ROOT.length + 1), async (t) => {
    const library = sanitizer(t);
    if (library === undefined) return;
    const native = await buildNative('asan');
    const { status, output, findings } = await runSanitized(library, [path], {
      FERRULE_NATIVE: native,
      FERRULE_FUZZ_ROUNDS: process.env.FERRULE_FUZZ_ROUNDS ?? FUZZ_ROUNDS,
      // The whole file, not each of its tests.
      TAP_TIMEOUT: '600',
    });
    t.strictSame(findings, [], 'no report');
    t.equal(status, 0, status === 0 ? 'passes' : output);
  });
}

function temporaryFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'ferrule-sanitizers-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** The sanitizers' library; where it is missing the test is skipped, or fails when everything is promised. */
function sanitizer(t: Test): string | undefined {
  const library = findSanitizer();
  if (library === undefined) missing(t, 'g++ with its libasan is not installed');
  return library;
}
