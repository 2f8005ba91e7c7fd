import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { beforeAll, describe, expect, it } from 'vitest';
import { makeProject } from './project.ts';

/** What `npm run check` reads, beside the sources. */
const configuration = [
  '.dependency-cruiser.cjs',
  '.oxlintrc.json',
  'biome.json',
  'knip.json',
  'package.json',
  'scripts/check.mjs',
  'tsconfig.json',
];

/** A project that is right, so far as it goes: a clean one that every planted fault is added to. */
const clean = {
  'src/main.ts': `import { answer } from './core/answer.ts';\n\nconsole.log(answer);\n`,
  'src/core/answer.ts': `/** The answer. */\nexport const answer = 42;\n`,
};

const use = (name: string) => `import * as used from '${name}';\n\nexport const planted = used;\n`;
const imports = (path: string) => `import { answer } from '${path}';\n\nexport const planted = answer;\n`;
const many = (line: string, count: number) => Array.from({ length: count }, () => line).join('\n');
// In two pieces, so that the check does not find this test.
const workplace = `/${'work'}/main/src`;
const registry = `registry.${'npmjs'}.org`;

/** Faults by what is expected to be said of them: text of the output, then files. */
const types = {
  "Type 'string' is not assignable to type 'number'": {
    'src/core/typed.ts': `export const planted: number = 'x';\n`,
  },
  'has no initializer and is not definitely assigned': {
    'src/core/strict.ts': `export class Planted {\n  value: number;\n}\n`,
  },
};

const lint = {
  'typescript(no-floating-promises)': `export function f(): void {\n  Promise.resolve(1);\n}\n`,
  'typescript(no-misused-promises)': `export const f = (a: number[]): void => a.forEach(async () => await Promise.resolve());\n`,
  'typescript(switch-exhaustiveness-check)': `export function f(a: 'x' | 'y'): void {\n  switch (a) {\n    case 'x':\n  }\n}\n`,
  'typescript(no-explicit-any)': `export const f = (a: any): unknown => a;\n`,
  'typescript(no-unsafe-assignment)': `export const f: number = JSON.parse('1');\n`,
  'typescript(no-unsafe-argument)': `export const f = Number.parseInt(JSON.parse('1'));\n`,
  'typescript(no-unsafe-call)': `export const f = (): unknown => JSON.parse('1')();\n`,
  'typescript(no-unsafe-member-access)': `export const f = (): unknown => JSON.parse('{}').a;\n`,
  'typescript(no-unsafe-return)': `export const f = (): number => JSON.parse('1');\n`,
  'typescript(consistent-type-imports)': `import { Planted } from './planted-type.ts';\n\nexport type Other = Planted;\n`,
  'typescript(no-non-null-assertion)': `export const f = (a: string | undefined): string => a!;\n`,
  'typescript(only-throw-error)': `export function f(): never {\n  throw 'planted';\n}\n`,
  'typescript(ban-ts-comment)': `// @ts-ignore\nexport const f = 1;\n`,
  'eslint(eqeqeq)': `export const f = (a: unknown): boolean => a == 1;\n`,
  'eslint(no-console)': `console.log(1);\n`,
  'eslint(no-restricted-properties)': `export const f = Date.now();\n`,
  'eslint(max-lines)': many('export {};', 401),
  'eslint(max-lines-per-function)': `export function f(): void {\n${many('  f();', 70)}\n}\n`,
  'oxc(no-barrel-file)': `export * from '../core/answer.ts';\n`,
  'import(no-default-export)': `export default 1;\n`,
};

/** Rules of .dependency-cruiser.cjs by name; the test below demands one for each. */
const layers: Record<string, Record<string, string>> = {
  'layer-vocabulary': { 'src/core/up.ts': imports('../x509/planted.ts') },
  'layer-formats': {
    'src/x509/planted.ts': clean['src/core/answer.ts'],
    'src/x509/up.ts': imports('../lint/planted.ts'),
    'src/log/up.ts': imports('../store/port.ts'),
  },
  'layer-checks': {
    'src/lint/planted.ts': clean['src/core/answer.ts'],
    'src/lint/up.ts': imports('../store/port.ts'),
  },
  'layer-ports': {
    'src/store/port.ts': clean['src/core/answer.ts'],
    'src/store/up.ts': imports('../issuance/planted.ts'),
  },
  'layer-domain': {
    'src/issuance/planted.ts': clean['src/core/answer.ts'],
    'src/issuance/up.ts': imports('../http/planted.ts'),
  },
  'layer-edge': {
    'src/http/planted.ts': clean['src/core/answer.ts'],
    'src/http/up.ts': imports('../main.ts'),
  },
  'home-of-better-sqlite3': { 'src/issuance/sqlite.ts': use('better-sqlite3') },
  'home-of-pkcs11js': { 'src/issuance/pkcs11.ts': use('pkcs11js') },
  'home-of-express': { 'src/cli/express.ts': use('express') },
  'home-of-rate-limiter-flexible': { 'src/cli/limiter.ts': use('rate-limiter-flexible') },
  'home-of-peculiar': { 'src/x509/peculiar.ts': use('@peculiar/x509') },
  'home-of-reflect-metadata': { 'src/x509/reflect.ts': `import 'reflect-metadata';\n` },
  'home-of-commander': { 'src/http/commander.ts': use('commander') },
  'home-of-zod': { 'src/cli/zod.ts': use('zod/mini') },
  'home-of-pino': { 'src/http/pino.ts': use('pino') },
  'home-of-prom-client': { 'src/http/prom.ts': use('prom-client') },
  'home-of-aws4fetch': { 'src/http/s3.ts': use('aws4fetch') },
  'home-of-yaml': { 'src/cli/yaml.ts': use('yaml') },
  'unknown-folder': { 'src/utils/planted.ts': imports('../core/answer.ts') },
  'unknown-package': { 'src/http/fast-check.ts': use('fast-check') },
  'zod-mini-only': { 'src/wire/zod.ts': use('zod') },
  'core-is-pure': { 'src/core/node.ts': use('node:fs') },
  'adapters-in-roots': {
    'src/store/sqlite/planted.ts': clean['src/core/answer.ts'],
    'src/http/adapter.ts': imports('../store/sqlite/planted.ts'),
  },
  'agent-alone': {
    'src/agent.ts': `import './agent/planted.ts';\n`,
    'src/agent/planted.ts': imports('../store/port.ts'),
  },
  'daemon-alone': {
    'src/agent-daemon.ts': `import './agent/planted.ts';\n`,
    'src/agent/planted.ts': imports('../store/port.ts'),
  },
  'no-cycle': {
    'src/x509/one.ts': `import { two } from './two.ts';\n\nexport const one = (): unknown => two;\n`,
    'src/x509/two.ts': `import { one } from './one.ts';\n\nexport const two = (): unknown => one;\n`,
  },
  'not-resolvable': { 'src/x509/nowhere.ts': use('./nowhere-at-all.ts') },
  'src-not-to-test': {
    'test/planted.ts': clean['src/core/answer.ts'],
    'src/http/test.ts': imports('../../test/planted.ts'),
  },
};

const text = {
  'src/core/path.ts:1: a path of the machine': { 'src/core/path.ts': `export const f = '${workplace}';\n` },
  'docs/guide.md:2: the address of a package registry': { 'docs/guide.md': `#\nhttps://${registry}/\n` },
  'src/core/now.ts:1: Date without an argument': { 'src/core/now.ts': `export const f = new Date();\n` },
  'test/later.test.ts:3: a test that does not run': {
    'test/later.test.ts': `import { it } from 'vitest';\n\nit.todo('later');\n`,
  },
};

const others: Record<string, Record<string, string>> = {
  'src/core/crooked.ts is not formatted': { 'src/core/crooked.ts': `export const  f=1\n` },
  'eslint(no-restricted-globals)': {
    'src/core/url.ts': `export const f = (a: string): string => new URL(a).pathname;\n`,
  },
  'src/x509/url.ts': { 'src/x509/url.ts': `export const f = (a: string): string => new URL(a).pathname;\n` },
  'src/registration/url.ts': {
    'src/registration/url.ts': `export const f = (a: string): string => new URL(a).pathname;\n`,
  },
  'vitest(no-focused-tests)': {
    'test/focused.test.ts': `import { expect, it } from 'vitest';\n\nit.only('one', () => expect(1).toBe(1));\n`,
  },
  'vitest(no-disabled-tests)': {
    'test/skipped.test.ts': `import { expect, it } from 'vitest';\n\nit.skip('one', () => expect(1).toBe(1));\n`,
  },
  'Unused exports': {
    'src/core/answer.ts': `${clean['src/core/answer.ts']}export const nobodyAsksForIt = 1;\n`,
  },
  nobodyAsksForIt: {},
  'Unused files': { 'src/core/unused.ts': `export const f = 1;\n` },
  'Unused dependencies': {},
};

interface Checked {
  status: number | null;
  output: string;
  /** Names of the steps that failed. */
  failed: string[];
}

function check(files: Record<string, string>): Checked {
  const directory = makeProject(configuration, files);
  const run = spawnSync(process.execPath, ['scripts/check.mjs'], { cwd: directory, encoding: 'utf8' });
  rmSync(directory, { recursive: true });
  const output = `${run.stdout}${run.stderr}`;
  const failed = [...output.matchAll(/^check: (.+?) +FAILED/gm)].map(([, name]) => name ?? '');
  return { status: run.status, output, failed: failed.sort() };
}

describe('npm run check, with a fault planted for each rule', () => {
  let checked: Checked;

  beforeAll(() => {
    const lintFiles = Object.values(lint).map((content, index): [string, string] => [
      `src/jobs/fault-${index}.ts`,
      content,
    ]);
    const planted: Record<string, string>[] = Object.values({ ...types, ...layers, ...text, ...others });
    checked = check({
      ...clean,
      ...Object.fromEntries(lintFiles),
      'src/jobs/planted-type.ts': `export type Planted = number;\n`,
      ...Object.fromEntries(planted.flatMap((files) => Object.entries(files))),
    });
  });

  it('fails, and every step says so', () => {
    expect(checked.status).toBe(1);
    expect(checked.failed).toEqual(['format', 'layers', 'lint', 'text', 'types', 'unused code']);
  });

  it.each([...Object.keys(types), ...Object.keys(lint), ...Object.keys(text), ...Object.keys(others)])(
    'reports %s',
    (expected) => {
      expect(checked.output).toContain(expected);
    },
  );

  const cruiser = createRequire(import.meta.url)('../../.dependency-cruiser.cjs') as {
    forbidden: { name: string }[];
  };

  it.each(cruiser.forbidden.map(({ name }) => name))('reports the dependency rule %s', (name) => {
    const planted = Object.keys(layers[name] ?? {});
    expect(planted, 'each rule has a planted fault').not.toEqual([]);
    const reports = checked.output.split('\n').filter((line) => line.startsWith(`${name}: `));
    expect(reports.some((line) => planted.some((file) => line.includes(file)))).toBe(true);
  });
});

describe('npm run check', () => {
  it('finds nothing in a clean project', () => {
    const { devDependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as {
      devDependencies: Record<string, string>;
    };
    const used = ['@types/node', 'knip', 'typescript'];
    const dependencies = Object.fromEntries(used.map((name) => [name, devDependencies[name]]));
    const manifest = `${JSON.stringify({ name: 'clean', type: 'module', devDependencies: dependencies }, null, 2)}\n`;
    const { output, status } = check({ ...clean, 'package.json': manifest });
    expect(status, output).toBe(0);
    expect(output.match(/^check: .+ ok +\d+\.\d s$/gm)).toHaveLength(6);
  });

  it('fails where dependency-cruiser saw nothing', () => {
    const { output, failed } = check({
      'test/answer.ts': clean['src/core/answer.ts'],
      'src/native/only.c': '',
    });
    expect(failed, output).toContain('layers');
    expect(output).toContain('depcruise saw no module');
  });
});
