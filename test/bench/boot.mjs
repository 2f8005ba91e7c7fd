// What a container's first certificate costs beside the start of Node itself.
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './processes.mjs';

/**
 * Pairs of `node -e 0` and a cold `vouch enroll`, one after the other, each from the start of its process to its end;
 * the enrollment's files are on disk by then. Milliseconds. Each process has an empty temporary folder, so that it finds
 * nothing that an earlier one compiled.
 */
export async function bootPairs({ root, folder, tokens }) {
  const pairs = [];
  for (const [index, { joinFile, spiffeId }] of tokens.entries()) {
    const place = join(folder, `boot-${index}`);
    const temporary = join(place, 'tmp');
    mkdirSync(temporary, { recursive: true });
    const joinPath = join(place, 'join');
    writeFileSync(joinPath, joinFile, { mode: 0o600 });
    const out = join(place, 'out');
    const env = { PATH: process.env.PATH, HOME: place, TMPDIR: temporary };
    const node = await timed(['-e', '0'], env);
    const enroll = await timed(
      [join(root, 'dist/vouch.js'), 'enroll', '--join-file', joinPath, '--out', out, '--json'],
      env,
    );
    const delivered = JSON.parse(enroll.stdout);
    const files = ['svid.pem', 'svid.key', 'bundle.pem', 'proof.json'];
    const missing = files.filter((name) => !existsSync(join(out, 'current', name)));
    if (delivered.spiffeId !== spiffeId || missing.length > 0)
      throw new Error(
        `vouch enroll delivered ${delivered.spiffeId} without ${missing.join(', ') || 'a fault'}`,
      );
    pairs.push({ node: node.ms, enroll: enroll.ms });
    rmSync(place, { recursive: true, force: true });
  }
  return pairs;
}

async function timed(args, env) {
  const start = performance.now();
  const stdout = await run(process.execPath, args, { env });
  return { ms: performance.now() - start, stdout };
}
