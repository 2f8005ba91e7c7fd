import 'reflect-metadata';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as peculiar from '@peculiar/x509';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { rdnName } from '../../src/x509/name.ts';
import { decodePem, encodePem } from '../../src/x509/pem.ts';
import { type Authority, bootAuthority, initAuthority } from '../support/daemon.ts';
import { makeIssuer, makeLeaf, makeRoot } from '../x509/authority.ts';
import { ArtefactDirectory, runTool } from '../x509/oracle-tools.ts';

/** A certificate as another implementation reads it. */
interface Reading {
  uris: string[];
  subjectIsEmpty: boolean;
  sanIsCritical: boolean;
  basicConstraints: { isCa: boolean; isCritical: boolean } | undefined;
  /** In the words of RFC 5280 §4.2.1.3. */
  keyUsage: { has: Set<string>; isCritical: boolean } | undefined;
  extendedKeyUsage: Set<string> | undefined;
}

/** The grammar of SPIFFE-ID.md §2, written down here a second time. */
const trustDomain = '[a-z0-9._-]{1,255}';
const segment = String.raw`(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+`;
const workloadId = new RegExp(`^spiffe://(${trustDomain})(?:/${segment})+$`);
const authorityId = new RegExp(`^spiffe://(${trustDomain})$`);

/** X509-SVID.md §2 to §4: what it says, whom it is said of, and whether it holds. */
const rules: readonly [citation: string, of: 'all' | 'leaf' | 'signing', holds: (r: Reading) => boolean][] = [
  ['§2 exactly one URI SAN', 'all', ({ uris }) => uris.length === 1],
  ['§2 of at most 2048 bytes', 'all', ({ uris }) => uris.every((uri) => Buffer.byteLength(uri) <= 2048)],
  ['§2 a SPIFFE ID with a path', 'leaf', ({ uris }) => workloadId.test(uris[0] ?? '')],
  ['§3.1 a SPIFFE ID without a path', 'signing', ({ uris }) => authorityId.test(uris[0] ?? '')],
  [
    '§2 subjectAltName critical where the subject is empty',
    'all',
    (r) => r.sanIsCritical || !r.subjectIsEmpty,
  ],
  ['§3.1 a signing certificate has a subject', 'signing', (r) => !r.subjectIsEmpty],
  [
    '§3.2, §4.1 cA is true',
    'signing',
    (r) => r.basicConstraints?.isCa === true && r.basicConstraints.isCritical,
  ],
  ['§4.1 cA is false', 'leaf', (r) => r.basicConstraints?.isCa !== true],
  ['§4.3 keyUsage is there, and critical', 'all', (r) => r.keyUsage?.isCritical === true],
  ['§4.3 keyCertSign', 'signing', (r) => r.keyUsage?.has.has('keyCertSign') === true],
  [
    '§4.3 neither keyCertSign nor cRLSign',
    'leaf',
    (r) => !r.keyUsage?.has.has('keyCertSign') && !r.keyUsage?.has.has('cRLSign'),
  ],
  ['§4.3 digitalSignature', 'leaf', (r) => r.keyUsage?.has.has('digitalSignature') === true],
  [
    '§4.4 serverAuth and clientAuth',
    'leaf',
    (r) => ['serverAuth', 'clientAuth'].every((one) => r.extendedKeyUsage?.has(one)),
  ],
  ['§3.1 signing certificates are for no end of TLS', 'signing', (r) => r.extendedKeyUsage === undefined],
];

function broken(reading: Reading, kind: 'leaf' | 'signing'): string[] {
  return rules
    .filter(([, of, holds]) => (of === 'all' || of === kind) && !holds(reading))
    .map(([citation]) => citation);
}

const files = new ArtefactDirectory();
afterAll(() => files[Symbol.dispose]());

const usages: Record<string, string> = {
  'Digital Signature': 'digitalSignature',
  'Certificate Sign': 'keyCertSign',
  'CRL Sign': 'cRLSign',
  'TLS Web Server Authentication': 'serverAuth',
  'TLS Web Client Authentication': 'clientAuth',
};

/** What `openssl x509 -text` prints. */
function byOpenssl(der: Buffer): Reading {
  const file = files.write('one.pem', encodePem('CERTIFICATE', der));
  const { output } = runTool('openssl', 'x509', '-in', file, '-noout', '-text');
  const value = (name: string) => new RegExp(`X509v3 ${name}: ?(critical)?\\s*\\n\\s+(.*)`).exec(output);
  const words = (text: string | undefined) =>
    new Set((text ?? '').split(', ').map((word) => usages[word] ?? word));
  const [san, basic, usage, extended] = [
    'Subject Alternative Name',
    'Basic Constraints',
    'Key Usage',
    'Extended Key Usage',
  ].map(value);
  return {
    uris: (san?.[2] ?? '')
      .split(', ')
      .filter((name) => name.startsWith('URI:'))
      .map((name) => name.slice('URI:'.length)),
    subjectIsEmpty: /Subject: *\n/.test(output),
    sanIsCritical: san?.[1] === 'critical',
    basicConstraints: basic
      ? { isCa: /CA:TRUE/.test(basic[2] ?? ''), isCritical: basic[1] === 'critical' }
      : undefined,
    keyUsage: usage ? { has: words(usage[2]), isCritical: usage[1] === 'critical' } : undefined,
    extendedKeyUsage: extended ? words(extended[2]) : undefined,
  };
}

function byPeculiar(der: Buffer): Reading {
  const certificate = new peculiar.X509Certificate(der);
  const san = certificate.getExtension(peculiar.SubjectAlternativeNameExtension);
  const basic = certificate.getExtension(peculiar.BasicConstraintsExtension);
  const usage = certificate.getExtension(peculiar.KeyUsagesExtension);
  const extended = certificate.getExtension(peculiar.ExtendedKeyUsageExtension);
  const has = (flag: peculiar.KeyUsageFlags) => ((usage?.usages ?? 0) & flag) !== 0;
  const { KeyUsageFlags: flags, ExtendedKeyUsage: oids } = peculiar;
  return {
    uris: (san?.names.items ?? []).filter(({ type }) => type === 'url').map(({ value }) => value),
    subjectIsEmpty: certificate.subject === '',
    sanIsCritical: san?.critical === true,
    basicConstraints: basic ? { isCa: basic.ca, isCritical: basic.critical } : undefined,
    keyUsage: usage
      ? {
          has: new Set(
            (['digitalSignature', 'keyCertSign', 'cRLSign'] as const).filter((name) => has(flags[name])),
          ),
          isCritical: usage.critical,
        }
      : undefined,
    extendedKeyUsage: extended
      ? new Set(
          (['serverAuth', 'clientAuth'] as const).filter((name) => extended.usages.includes(oids[name])),
        )
      : undefined,
  };
}

const readers = [
  ['openssl', byOpenssl],
  ['@peculiar/x509', byPeculiar],
] as const;

/** The critical flags and the bare form of subject and SAN, as `openssl asn1parse` sees the bytes. */
function asn1(der: Buffer): string {
  return runTool('openssl', 'asn1parse', '-in', files.write('one.pem', encodePem('CERTIFICATE', der))).output;
}

function certificatesIn(pem: string): Buffer[] {
  return decodePem(pem, 'CERTIFICATE');
}

/** Everything an authority issued: each in the list of the log, as delivered, with issuer, root and its own. */
async function issuedBy(authority: Authority): Promise<Map<string, Buffer>> {
  const named = ['plain', 'team.a/web_1/x-y.z'].map((name) => authority.enroll(name));
  const dnsNames = Array.from({ length: 40 }, (_, at) => ['--dns', `host-${at}.test.example`]).flat();
  named.push(authority.enroll('names', ...dnsNames, '--ip', '192.0.2.7', '--ip', '2001:db8::7'));
  named.push(authority.enroll(`long/${'a'.repeat(1900)}`));
  const [plain, segments, names, long] = await Promise.all(named);
  const found = new Map<string, Buffer>();
  const add = (name: string, pem: string | undefined) => {
    const [leaf, issuer, root] = certificatesIn(pem ?? '');
    if (leaf) found.set(name, leaf);
    if (issuer) found.set('issuer', issuer);
    if (root) found.set('root', root);
  };
  add('a workload', plain?.read('svid.pem'));
  (await authority.vouch('renew', '--dir', plain?.dir ?? '')).json();
  add('a renewed workload', plain?.read('svid.pem'));
  add('a path of several segments', segments?.read('svid.pem'));
  add('40 DNS names and two addresses', names?.read('svid.pem'));
  add('a path of 1900 bytes', long?.read('svid.pem'));
  add('the server', readFileSync(join(authority.state, 'server/svid.pem'), 'utf8'));
  return found;
}

let issued: Map<string, Buffer>;
let constrained: Map<string, Buffer>;

beforeAll(async () => {
  const [authority, other] = await Promise.all([
    bootAuthority(),
    initAuthority({ trustDomain: 'constrained.example', init: ['--name-constraints'] }),
  ]);
  issued = await issuedBy(authority);
  const [server, issuer, root] = certificatesIn(readFileSync(join(other.state, 'server/svid.pem'), 'utf8'));
  constrained = new Map(
    Object.entries({ server, issuer, root }).flatMap(([name, der]) => (der ? [[name, der] as const] : [])),
  );
});

const kindOf = (name: string) => (name === 'issuer' || name === 'root' ? 'signing' : 'leaf');

describe.each(readers)('as %s reads it', (_reader, read) => {
  it.each([
    'a workload',
    'a renewed workload',
    'a path of several segments',
    '40 DNS names and two addresses',
    'a path of 1900 bytes',
    'the server',
    'issuer',
    'root',
  ])('%s', (name) => {
    const der = issued.get(name);
    expect(der).toBeDefined();
    const reading = read(der ?? Buffer.alloc(0));
    expect(broken(reading, kindOf(name))).toEqual([]);
    expect(reading.uris[0]).toMatch(/^spiffe:\/\/test\.example(\/|$)/);
  });

  it.each(['server', 'issuer', 'root'])('%s under name constraints', (name) => {
    expect(broken(read(constrained.get(name) ?? Buffer.alloc(0)), kindOf(name))).toEqual([]);
  });
});

it('has a SEQUENCE without members for a subject, and TRUE where critical is said (asn1parse)', () => {
  const parsed = asn1(issued.get('a workload') ?? Buffer.alloc(0));
  expect(parsed).toMatch(/UTCTIME.*\n.*UTCTIME.*\n.*l= {2,}0 cons: SEQUENCE/);
  for (const extension of ['Basic Constraints', 'Key Usage', 'Subject Alternative Name'])
    expect(parsed).toMatch(new RegExp(`OBJECT +:X509v3 ${extension}\\n.*BOOLEAN +:255\\n`));
});

describe('the table itself sees each rule broken', () => {
  const root = makeRoot();
  const issuer = makeIssuer(root);
  const leafWith = (change: Parameters<typeof makeLeaf>[1]) => makeLeaf(issuer, change);
  const named = rdnName({ commonName: 'x' });
  it.each<[string, 'leaf' | 'signing', Buffer]>([
    [
      '§2 exactly one URI SAN',
      'leaf',
      leafWith({ uris: ['spiffe://example.org/a', 'spiffe://example.org/b'] }),
    ],
    ['§2 a SPIFFE ID with a path', 'leaf', leafWith({ uris: ['spiffe://example.org'] })],
    ['§2 a SPIFFE ID with a path', 'leaf', leafWith({ uris: ['https://example.org/a'] })],
    ['§2 a SPIFFE ID with a path', 'leaf', leafWith({ uris: ['spiffe://example.org/a/../b'] })],
    [
      '§3.1 a SPIFFE ID without a path',
      'signing',
      makeIssuer(root, { uris: ['spiffe://example.org/ca'] }).der,
    ],
    ['§3.2, §4.1 cA is true', 'signing', leafWith({ subjectName: named })],
    ['§4.3 keyCertSign', 'signing', leafWith({ subjectName: named })],
    ['§4.1 cA is false', 'leaf', issuer.der],
    ['§4.3 neither keyCertSign nor cRLSign', 'leaf', issuer.der],
    ['§4.3 digitalSignature', 'leaf', issuer.der],
    ['§4.4 serverAuth and clientAuth', 'leaf', issuer.der],
    ['§3.1 signing certificates are for no end of TLS', 'signing', leafWith({ subjectName: named })],
    ['§3.1 a signing certificate has a subject', 'signing', leafWith({})],
  ])('%s', (citation, kind, der) => {
    for (const [, read] of readers) expect(broken(read(der), kind)).toContain(citation);
  });

  it('§2 subjectAltName and §4.3 keyUsage without their critical flags', () => {
    const flag = Buffer.from([0x01, 0x01, 0xff]);
    for (const [oid, citation] of [
      [Buffer.from([0x06, 0x03, 0x55, 0x1d, 0x11]), '§2 subjectAltName critical where the subject is empty'],
      [Buffer.from([0x06, 0x03, 0x55, 0x1d, 0x0f]), '§4.3 keyUsage is there, and critical'],
    ] as const) {
      const der = Buffer.from(leafWith({}));
      // BOOLEAN FALSE is no DER, but both readers take it for what it says.
      der[der.indexOf(Buffer.concat([oid, flag])) + oid.length + 2] = 0;
      for (const [, read] of readers) expect(broken(read(der), 'leaf')).toContain(citation);
    }
  });
});
