import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parseConfig } from '../../src/config/config.ts';
import { parseDuration } from '../../src/config/duration.ts';

const whole = {
  trustDomain: 'example.org',
  state: '/var/lib/vouch',
  hsm: { module: '/m.so', tokenLabel: 'a', tokenSerial: 'b', pinFile: '/pin' },
  enrollment: { url: 'https://vouch.example.org:8443' },
  publication: { url: 'http://pki.example.org' },
};

test('what is left out has the documented default', () => {
  const config = parseConfig(whole);
  expect(config).toMatchObject({
    enrollment: {
      listen: { host: '127.0.0.1', port: 8443 },
      inFlightMax: 512,
      failuresPerMinute: 60,
      svidsAtOnce: 60,
      svidsPerLifetime: 4,
    },
    publication: { listen: { host: '127.0.0.1', port: 8180 } },
    operations: { listen: { host: '127.0.0.1', port: 9180 } },
    crl: { validity: 86_400 },
    signer: { deadline: 3 },
    log: { level: 'info' },
    hsm: { environment: {} },
  });
  expect(Object.isFrozen(config)).toBe(true);
});

test('a module may want a variable whose name has small letters', () => {
  const environment = { ChrystokiConfigurationPath: '/etc/vouch', SOFTHSM2_CONF: '/c', _a1: 'x' };
  expect(parseConfig({ ...whole, hsm: { ...whole.hsm, environment } })).toMatchObject({
    hsm: { environment },
  });
});

test('every problem is named at once, with its path', () => {
  const problems = parseConfig({
    ...whole,
    state: 'relative',
    colour: 'red',
    enrollment: { url: 'http://not-tls', listen: 'nowhere', inFlightMax: 1 },
    crl: { validity: 'soon' },
  });
  expect(Array.isArray(problems) && problems.map((problem) => problem.path).sort()).toEqual([
    'colour',
    'crl.validity',
    'enrollment.inFlightMax',
    'enrollment.listen',
    'enrollment.url',
    'state',
  ]);
});

test.each([
  [
    'a port',
    { enrollment: { ...whole.enrollment, listen: '127.0.0.1:70000' } },
    'enrollment.listen.port',
    '65535',
  ],
  ['a deadline', { signer: { deadline: '2m' } }, 'signer.deadline', '60s at most'],
  ['a validity', { crl: { validity: '30d' } }, 'crl.validity', '10d at most'],
  ['too short a validity', { crl: { validity: '59m' } }, 'crl.validity', '1h at least'],
  ['a length', { hsm: { ...whole.hsm, tokenLabel: '' } }, 'hsm.tokenLabel', '1 at least'],
  ['a standby in a hurry', { standby: { hsm: whole.hsm, after: '1s' } }, 'standby.after', '5s at least'],
  [
    'a replica',
    { hsm: { ...whole.hsm, replicas: [{ ...whole.hsm, module: 'm' }] } },
    'hsm.replicas.0.module',
    'absolute',
  ],
  ['a type', { log: 3 }, 'log', 'type object'],
  ['a level', { log: { level: 'loud' } }, 'log.level', 'debug, info, warn, error'],
  ['a variable', { hsm: { ...whole.hsm, environment: { 'A-B': 'c' } } }, 'hsm.environment.A-B', ''],
  ['a misspelt key', { hsm: { ...whole.hsm, pin: '1234' } }, 'hsm.pin', 'known'],
])('%s out of bounds is named with its bound', (_name, change, path, words) => {
  expect(parseConfig({ ...whole, ...change })).toEqual([{ path, problem: expect.stringContaining(words) }]);
});

test.each(['Example.org', 'a/b', '', 'x'.repeat(256)])('the trust domain %j is refused', (trustDomain) => {
  expect(parseConfig({ ...whole, trustDomain })).toEqual([
    { path: 'trustDomain', problem: expect.stringContaining('trust domain') },
  ]);
});

test.each([
  ['90s', 90],
  ['10m', 600],
  ['24h', 86_400],
  ['7d', 604_800],
])('%s is %i seconds', (text, seconds) => expect(parseDuration(text)).toBe(seconds));

test.each(['', '10', 'm', '-1s', '1.5h', '1w', ' 1s', '9999999999s'])('%j is no duration', (text) => {
  expect(() => parseDuration(text)).toThrow(/not a duration/);
});

test('docs/configuration.md describes every key', () => {
  const document = readFileSync('docs/configuration.md', 'utf8');
  const config = parseConfig({
    ...whole,
    hsm: { ...whole.hsm, replicas: [whole.hsm] },
    standby: { hsm: whole.hsm },
    signer: { socket: '/s' },
  }) as Readonly<Record<string, unknown>>;
  expect(Array.isArray(config)).toBe(false);
  for (const [section, value] of Object.entries(config)) {
    const keys = typeof value === 'object' && value !== null ? Object.keys(value) : [undefined];
    for (const key of keys) {
      const row = document
        .split('\n')
        .find(
          (line) =>
            line.startsWith(`| \`${section}${key === undefined ? '`' : '.'}`) &&
            (key === undefined || line.includes(`.${key}\``)),
        );
      expect(row, `${section}.${key}`).toBeDefined();
    }
  }
});

test.each(['https://h/x', 'https://u:p@h', 'https://h?x', 'http://h', 'h:8443'])(
  'an enrollment URL such as %s, which no join file could hold, is refused',
  (url) => {
    expect(parseConfig({ ...whole, enrollment: { url } })).toEqual([
      { path: 'enrollment.url', problem: expect.stringContaining('nothing more') as unknown },
    ]);
  },
);

test.each(['https://h', 'http://u:p@h', 'http://h/?x=1', 'http://h/#x', 'ftp://h'])(
  'a publication URL such as %s, under which no CRL could be fetched, is refused',
  (url) => {
    expect(parseConfig({ ...whole, publication: { url } })).toEqual([
      { path: 'publication.url', problem: expect.stringContaining('http URL without') as unknown },
    ]);
  },
);

const s3 = {
  endpoint: 'https://s3.example',
  bucket: 'crls',
  accessKeyFile: '/a',
  secretKeyFile: 'credential:s',
};

test('publish targets are directories and buckets, with defaults', () => {
  const publish = [{ directory: '/srv/crl' }, { s3: { ...s3, prefix: 'pki/v1' } }];
  expect(parseConfig({ ...whole, publish })).toMatchObject({
    publish: [
      { directory: '/srv/crl' },
      { s3: { ...s3, prefix: 'pki/v1', region: 'us-east-1', pathStyle: false } },
    ],
  });
  expect(parseConfig(whole)).toMatchObject({ publish: [] });
});

test.each<[object, string, string]>([
  [{}, 'publish.0', 'either'],
  [{ directory: '/a', s3 }, 'publish.0', 'either'],
  [{ directory: 'a' }, 'publish.0.directory', 'absolute'],
  [{ s3: { ...s3, endpoint: 'https://h/path' } }, 'publish.0.s3.endpoint', 'nothing more'],
  [{ s3: { ...s3, endpoint: 'https://key:secret@h' } }, 'publish.0.s3.endpoint', 'nothing more'],
  [{ s3: { ...s3, endpoint: 'h:9000' } }, 'publish.0.s3.endpoint', 'nothing more'],
  [{ s3: { ...s3, bucket: 'a/b' } }, 'publish.0.s3.bucket', 'bucket'],
  [{ s3: { ...s3, prefix: '/pki' } }, 'publish.0.s3.prefix', 'names'],
  [{ s3: { ...s3, prefix: 'a/../b' } }, 'publish.0.s3.prefix', 'names'],
  [{ s3: { ...s3, secretKeyFile: 'AKIA' } }, 'publish.0.s3.secretKeyFile', 'path or credential'],
  [{ s3: { ...s3, secretKey: 'x' } }, 'publish.0.s3.secretKey', 'not a key'],
])('the publish target %j is refused with the place of the mistake', (target, path, problem) => {
  const problems = parseConfig({ ...whole, publish: [target] });
  expect(problems).toEqual([{ path, problem: expect.stringContaining(problem) as string }]);
});
