// Takes the agent apart, one change at a time: the simulation has to notice each.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const run = promisify(execFile);
/** Seeds that a defect may hide from, one after the other. */
const seedsMost = 6;

/** Each: what the simulation says of it, then changes: a file, what stands there once, what stands there instead. */
const defects = {
  'drops certificates when a call has failed': [
    /served no more|no good certificate/,
    [
      'daemon/svids.ts',
      'slot.failure = { code: failure.code, detail: failure.detail, atMs: clock.now() };',
      'slot.drop(clock);',
    ],
  ],
  'renews when a certificate is over': [
    /no good certificate/,
    [
      'daemon/svid-slot.ts',
      'this.due = momentOf(earliestMs + random() * (latestMs - earliestMs) - clock.now(), clock);',
      'this.due = momentOf(held.notAfterMs - clock.now() + 0 * (earliestMs + latestMs + random()), clock);',
    ],
  ],
  'renews late, in all of the window and beyond': [
    /no good certificate/,
    [
      'daemon/svid-slot.ts',
      'this.due = momentOf(earliestMs + random() * (latestMs - earliestMs) - clock.now(), clock);',
      'this.due = momentOf((held.notBeforeMs + 4 * held.notAfterMs) / 5 - clock.now() + 0 * (earliestMs + latestMs + random()), clock);',
    ],
  ],
  'serves what is suspended': [
    /is suspended, or gone/,
    ['daemon/svid-slot.ts', 'held === undefined || entry.suspended ||', 'held === undefined ||'],
    ['daemon/svids.ts', 'if (entry.suspended || slot.held', 'if (slot.held'],
  ],
  'keeps entries that are deleted': [
    /is suspended, or gone/,
    [
      'daemon/svids.ts',
      'const slots = new Map<string, SvidSlot>();\n    for',
      'const slots = new Map<string, SvidSlot>(this.#slots);\n    for',
    ],
  ],
  'does not hear of entries': [
    /is suspended, or gone|not unix|no good/,
    ['daemon/entries.ts', 'if (sequence !== this.#known && !this.#isAsking) this.askNow();', ''],
  ],
  'has no jitter': [/no jitter|a storm/, ['retry.ts', 'random() * bound', 'bound + 0 * random()']],
  'does not pause': [
    /a storm/,
    [
      'retry.ts',
      'return retryAfterSeconds * 1000 + random() * bound;',
      'return 100 + 0 * (retryAfterSeconds + bound + random());',
    ],
  ],
  'opens any cache that it ever wrote': [
    /serves from it/,
    [
      'daemon/sealed-cache.ts',
      'const key = randomBytes(cacheKeyBytes);',
      'const key = Buffer.alloc(cacheKeyBytes, 7);',
    ],
  ],
  'does not look again whether a process lives': [
    /has ended was given|it shows/,
    ['workload/attest.ts', 'if (!peer.isAlive()) throw', 'if (peer.pid < 0) throw'],
    ['workload-api/service.ts', 'if (svids.length > 0 && call.peer.isAlive())', 'if (svids.length > 0)'],
    [
      'workload-api/streams.ts',
      'group.svids.length === 0 || !stream.peer.isAlive()',
      'group.svids.length === 0',
    ],
  ],
  'takes one selector for all': [
    /it shows/,
    ['agent/workloads.ts', 'svid.selectors.every(', 'svid.selectors.some('],
  ],
  'does not look again when entries ask for something else': [
    /it shows|no good/,
    [
      'workload-api/streams.ts',
      'if (stream.asked === askedBy(served)) this.#tellOrEnd',
      'if (stream.asked !== askedBy(served) || stream.asked.length >= 0) this.#tellOrEnd',
    ],
    ['workload-api/streams.ts', 'if (group.served !== served) {', 'if (group.served === undefined) {'],
  ],
  'takes a certificate for other names': [
    /the certificate (is for|has)|has another name/,
    ['daemon/svid-answer.ts', '  assertOfEntry(leaf, entry);\n  if', '  if'],
  ],
  'takes a certificate for another key': [
    /the key is another/,
    ['daemon/svid-answer.ts', 'if (!leaf.spki.equals(spki))', 'if (leaf.spki.length === 0 && spki)'],
  ],
  'goes on with what is revoked': [
    /it is revoked|no good/,
    [
      'daemon/svids.ts',
      '({ held }) => held && isRevoked(held.issuerKeyId, held.serial)',
      '({ held }) => held && isRevoked === undefined',
    ],
  ],
  'has no cache': [
    /does not go on/,
    [
      'daemon/daemon.ts',
      'if (content === undefined) return;',
      'if (content === undefined || content.length > 0) return;',
    ],
  ],
  'keeps streams that have ended': [
    /streams that have ended/,
    ['workload-api/streams.ts', 'return () => {\n      this.#forget(stream);', 'return () => {'],
  ],
};

export async function runMutants({ seed, hours }) {
  const folder = mkdtempSync(join(tmpdir(), 'vouch-mutants-'));
  for (const name of ['node_modules', 'package.json']) symlinkSync(join(root, name), join(folder, name));
  let failed = 0;
  try {
    const hoursEach = Math.min(hours, 12);
    const fine = await found([], { folder, seed, hours: hoursEach, seeds: 1, expected: /./ });
    console.log(
      `${fine === undefined ? 'passed' : 'FAILED'}  as it is: ${fine?.problem ?? 'nothing is found'}`,
    );
    if (fine !== undefined) failed += 1;
    for (const [name, [expected, ...changes]] of Object.entries(defects)) {
      const defect = await found(changes, { folder, seed, hours: hoursEach, seeds: seedsMost, expected });
      console.log(
        `${defect ? 'passed' : 'FAILED'}  ${name}: ${defect ? `seed ${defect.seed}: ${defect.problem}` : 'nobody noticed'}`,
      );
      if (defect === undefined) failed += 1;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  console.log(`${Object.keys(defects).length + 1 - failed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

/** The first problem of this kind that simulations of an agent with these changes have. */
async function found(changes, { folder, seed: first, hours, seeds, expected }) {
  const outfile = await bundle(folder, changes);
  for (let seed = first; seed < first + seeds; seed += 1) {
    const { stdout } = await run(process.execPath, [outfile, String(hours), String(seed)]);
    const problem = JSON.parse(stdout).find((one) => expected.test(one));
    if (problem !== undefined) return { seed, problem };
  }
  return undefined;
}

async function bundle(folder, changes) {
  const { build } = await import('esbuild');
  const outfile = join(folder, 'simulation.mjs');
  const contents = `import { simulate } from './simulation.ts';
const { problems } = await simulate({ hours: Number(process.argv[2]), seed: Number(process.argv[3]) });
process.stdout.write(JSON.stringify(problems), () => process.exit(0));`;
  await build({
    stdin: { contents, resolveDir: fileURLToPath(new URL('.', import.meta.url)), loader: 'ts' },
    ...{ outfile, bundle: true, platform: 'node', target: 'node22', format: 'esm', logLevel: 'error' },
    banner: { js: "import { createRequire as r } from 'node:module'; const require = r(import.meta.url);" },
    define: { __VOUCH_WITHOUT__: '""', __VOUCH_VERSION__: '"mutant"' },
    plugins: [
      {
        name: 'changes',
        setup: (plugin) =>
          plugin.onLoad({ filter: /\/src\/.+\.ts$/ }, ({ path }) => ({
            contents: changed(path, changes),
            loader: 'ts',
          })),
      },
    ],
  });
  return outfile;
}

function changed(path, changes) {
  let text = readFileSync(path, 'utf8');
  for (const [file, before, after] of changes) {
    if (!path.endsWith(`/${file}`)) continue;
    if (text.split(before).length !== 2) throw new Error(`${file} does not have once: ${before}`);
    text = text.replace(before, () => after);
  }
  return text;
}
