// The layers of src/ and the one home of each package, as docs/ARCHITECTURE.md draws them.

/** Low to high: a file imports from its own layer and from lower ones only. Paths below src/. */
const layers = {
  vocabulary: ['core/'],
  formats: ['x509/', 'log/', 'native/'],
  checks: ['lint/', 'wire/', 'config/', 'telemetry/', 'ceremony/'],
  ports: ['store/', 'signer/'],
  domain: [
    'registration/',
    'attestation/',
    'issuance/',
    'authority/',
    'revocation/',
    'enrollment/',
    'operator/',
    'publish/',
    'jobs/',
    'sequencer/',
    'watch/',
    'audit/',
  ],
  edge: ['http/', 'agent/', 'client/', 'cli/'],
};

/** Composition roots: main.ts, server.ts, …, and the entry of the operators' verbs. They may import everything. */
const roots = String.raw`^src/([^/]+|cli/main|(init|ceremony/program)/[^/]+)\.ts$`;

/** Where a package may be imported. One that is not named here may not be imported at all. */
const homes = {
  'better-sqlite3': '^src/store/sqlite/',
  pkcs11js: '^src/signer/pkcs11/',
  express: '^src/http/',
  'rate-limiter-flexible': '^src/http/',
  '@peculiar/[^/]+': '^src/signer/ceremony[^/]*[.]ts$',
  'reflect-metadata': '^src/signer/ceremony[^/]*[.]ts$',
  commander: '^src/cli/',
  zod: '^src/(wire|http|config)/',
  pino: '^src/telemetry/',
  'prom-client': '^src/telemetry/',
  yaml: '^src/config/',
  aws4fetch: '^src/publish/',
};

/** What the agent's one file must not carry: it runs without node_modules and without native addons. */
const notInAgent =
  '(^|/)node_modules/(?!zod/)|^src/((store|signer|http|cli|issuance|authority|native)/|server[.]ts)';

/** What the daemon's must not. */
const notInDaemon =
  '(^|/)node_modules/(?!(zod|yaml)/)|^src/((store|signer|http|cli|issuance|authority)/|server[.]ts)';

const below = (paths) => `^src/(${paths.join('|')})`;
const packageOf = (name) => `node_modules/(@types/)?(${name})/`;

const layerRules = Object.entries(layers).map(([name, paths], index, all) => ({
  name: `layer-${name}`,
  comment:
    "A lower layer never imports a higher one; only the operators' verbs start the programs that the roots are.",
  severity: 'error',
  from: { path: below(paths), pathNot: [roots, ...(name === 'edge' ? ['^src/cli/'] : [])] },
  to: { path: [...all.slice(index + 1).map(([, higher]) => below(higher)), roots] },
}));

const homeRules = Object.entries(homes).map(([name, home]) => ({
  name: `home-of-${name.replace(/[^a-z0-9-]/g, '')}`,
  comment: 'Each package lives in one folder, so that it can be replaced there.',
  severity: 'error',
  from: { path: '^src/', pathNot: home },
  to: { path: packageOf(name) },
}));

module.exports = {
  forbidden: [
    ...layerRules,
    ...homeRules,
    {
      name: 'unknown-folder',
      comment: 'A new folder of src/ gets its place in `layers`.',
      severity: 'error',
      from: { path: '^src/', pathNot: [below(Object.values(layers).flat()), roots] },
      to: {},
    },
    {
      name: 'unknown-package',
      comment: 'A new dependency gets its home in `homes` and its reason in docs/dependencies.md.',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '(^|/)node_modules/', pathNot: packageOf(Object.keys(homes).join('|')) },
    },
    {
      name: 'zod-mini-only',
      comment: 'zod/mini is a tenth of zod, and the agent starts with it.',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: 'node_modules/zod/', pathNot: 'node_modules/zod/mini/' },
    },
    {
      name: 'core-is-pure',
      comment: 'core knows no package and nothing of Node: it is vocabulary.',
      severity: 'error',
      from: { path: '^src/core/' },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'adapters-in-roots',
      comment: 'Adapters are constructed in composition roots; everyone else knows the port.',
      severity: 'error',
      from: { path: '^src/', pathNot: [roots, '^src/store/(sqlite|postgres)/', '^src/signer/'] },
      to: { path: ['^src/store/(sqlite|postgres)/', '^src/signer/(?!port[.]ts$)'] },
    },
    {
      name: 'agent-alone',
      comment:
        "The agent's bundle runs without node_modules, and a workload pays for each byte at its start.",
      severity: 'error',
      from: { path: '^src/(agent[.]ts|client/main[.]ts)$' },
      to: { path: notInAgent, reachable: true },
    },
    {
      name: 'daemon-alone',
      comment: "The daemon's bundle runs without node_modules; native/ it has beside it.",
      severity: 'error',
      from: { path: '^src/agent-daemon[.]ts$' },
      to: { path: notInDaemon, reachable: true },
    },
    {
      name: 'no-cycle',
      severity: 'error',
      from: { path: '^src/' },
      to: { circular: true },
    },
    {
      name: 'not-resolvable',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'src-not-to-test',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(test|scripts|examples)/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^dist/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'types', 'node', 'default'],
    },
  },
};
