// Takes writer and gate apart, one change at a time. What a writer does wrong the gate holds back, with an alarm, and
// nothing untrue is published; with the gate gone as well the model has to find it.
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const run = promisify(execFile);

/** Each: a file, and in turn what stands there once and what stands there instead. */
const writers = {
  'forgets a serial': [
    'revoked-lists.ts',
    'if (record.mayLeave) return [];',
    "if (record.mayLeave || record.serial.endsWith('7')) { this.cover(record); return [...scopesOf(record.serial, this.#shardCount)]; }",
  ],
  'dates an entry too late': [
    'revoked-lists.ts',
    'given ?? Math.min(Math.floor(record.revokedAtMs / 1000), ...carriers);',
    'Math.floor(record.revokedAtMs / 1000) + 1 + 0 * carriers.length + 0 * (given ?? 0);',
  ],
  'says another reason': [
    'revoked-lists.ts',
    'changes.push([serial, entryOf({ ...record, crlDateSeconds: date })]);',
    "changes.push([serial, entryOf({ ...record, reason: 'unspecified', crlDateSeconds: date })]);",
  ],
  'keeps what was released': [
    'revoked-lists.ts',
    'if (!isStanding(record)) changes.push([serial, undefined]);',
    'if (!isStanding(record)) continue;',
    'isAnew ? undefined : full.find(serial)?.dateSeconds',
    'isAnew ? undefined : undefined',
  ],
  'lets entries leave too early': [
    'leaving.ts',
    '?.mayLeave === true);\n    if (left.length === 0) return;\n    lists.remove(left);',
    '?.mayLeave === false);\n    return lists.remove(left);',
    'scheduledSeconds * 1000,',
    '(scheduledSeconds + 3600) * 1000,',
  ],
  'a delta without releases': [
    'revoked-lists.ts',
    'const delta = changes.map(',
    'const delta = changes.filter(([, entry]) => entry).map(',
  ],
  'a delta of a stale base': [
    'crl-drafts.ts',
    '{ deltaBase: follows.crlNumber }',
    '{ deltaBase: follows.crlNumber - 1n }',
  ],
};

export async function runMutants({ seed }) {
  const folder = mkdtempSync(join(tmpdir(), 'vouch-mutants-'));
  for (const name of ['node_modules', 'migrations', 'package.json'])
    symlinkSync(join(root, name), join(folder, name));
  let failed = 0;
  let passed = 0;
  try {
    const tell = (name, isRight, why) => {
      console.log(`${isRight ? 'passed' : 'FAILED'}  ${name}: ${why}`);
      if (isRight) passed += 1;
      else failed += 1;
    };
    for (const [name, change] of Object.entries(writers)) {
      const held = await simulated(folder, [change], seed);
      tell(
        name,
        held.refused.length > 0 && !held.problems.some(isUntrue),
        held.problems.find(isUntrue) ?? `${held.refused.length} held back`,
      );
      const free = await simulated(folder, [change], seed, 'I5');
      tell(
        `${name}, without the gate`,
        free.problems.some(isUntrue),
        free.problems.find(isUntrue) ?? 'nobody noticed',
      );
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

/** A CRL that is out, not one that is late. */
function isUntrue(problem) {
  return problem.startsWith('CRL ') && !/does not catch up|still lists/.test(problem);
}

/** Builds the simulation with these changes, and without the guard of an invariant, and runs a short one; what it found. */
async function simulated(folder, changes, seed, without = '') {
  const { build } = await import('esbuild');
  const dist = join(folder, 'dist');
  mkdirSync(dist, { recursive: true });
  const outfile = join(dist, 'simulation.mjs');
  const source = `import { simulate } from './simulation.ts';
const { problems, refused } = await simulate({ revocations: 300, seed: ${seed} });
process.stdout.write(JSON.stringify({ problems, refused }));
process.exit(0);`;
  await build({
    stdin: { contents: source, resolveDir: fileURLToPath(new URL('.', import.meta.url)), loader: 'ts' },
    ...{ outfile, bundle: true, platform: 'node', target: 'node22', format: 'esm', logLevel: 'error' },
    banner: { js: "import { createRequire as r } from 'node:module'; const require = r(import.meta.url);" },
    external: ['better-sqlite3', 'pkcs11js'],
    define: { __VOUCH_WITHOUT__: JSON.stringify(without), __VOUCH_VERSION__: '"mutant"' },
    plugins: [
      {
        name: 'changes',
        setup: (plugin) =>
          plugin.onLoad({ filter: /src\/revocation\/[^/]+\.ts$/ }, ({ path }) => ({
            contents: changed(path, changes),
            loader: 'ts',
          })),
      },
    ],
  });
  const { stdout } = await run(process.execPath, [outfile], { maxBuffer: 64 * 1024 * 1024 });
  return JSON.parse(stdout);
}

function changed(path, changes) {
  let text = readFileSync(path, 'utf8');
  for (const [file, ...pairs] of changes)
    if (path.endsWith(`/${file}`))
      for (let at = 0; at < pairs.length; at += 2) {
        if (text.split(pairs[at]).length !== 2) throw new Error(`${file} does not have once: ${pairs[at]}`);
        text = text.replace(pairs[at], () => pairs[at + 1]);
      }
  return text;
}
