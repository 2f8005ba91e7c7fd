import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';
import { temporaryFolder } from './hsm.ts';

const project = resolve(import.meta.dirname, '../..');
let built: Promise<string> | undefined;

/**
 * Bundles the signer as a release does and returns its entry point, once in a test process: `signer ARGS…` with the
 * configuration as JSON.
 */
export function builtSigner(): Promise<string> {
  built ??= buildSigner();
  return built;
}

async function buildSigner(): Promise<string> {
  const folder = temporaryFolder('dist');
  const main = join(folder, 'main.ts');
  await writeFile(
    main,
    `import { readFileSync } from 'node:fs';
     import { runSigner } from ${JSON.stringify(join(project, 'src/signer.ts'))};
     const [verb, ...argv] = process.argv.slice(2);
     if (verb !== 'signer') throw new Error('signer only');
     runSigner(argv, (file) => JSON.parse(readFileSync(file, 'utf8')));`,
  );
  await build({
    entryPoints: { vouch: main, 'pkcs11-worker': join(project, 'src/signer/pkcs11/worker.ts') },
    outdir: join(folder, 'dist'),
    bundle: true,
    splitting: true,
    platform: 'node',
    format: 'esm',
    target: 'node22',
    external: ['pkcs11js', 'better-sqlite3'],
    define: {
      __VOUCH_WITHOUT__: JSON.stringify(process.env.VOUCH_WITHOUT ?? ''),
      __VOUCH_VERSION__: JSON.stringify('test'),
    },
    // CommonJS packages inside an ESM bundle ask for it.
    banner: {
      js: "import { createRequire as __cr } from 'node:module'; const require = __cr(import.meta.url);",
    },
    logLevel: 'error',
  });
  await writeFile(join(folder, 'package.json'), '{"type":"module"}');
  await mkdir(join(folder, 'node_modules'), { recursive: true });
  await symlink(join(project, 'node_modules/pkcs11js'), join(folder, 'node_modules/pkcs11js'));
  return join(folder, 'dist/vouch.js');
}
