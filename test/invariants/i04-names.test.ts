// I4 names from entries: nothing but the public key is taken from a CSR.
import { sign } from 'node:crypto';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Enrollment } from '../../src/enrollment/enroll.ts';
import { assembleSigned } from '../../src/x509/certificate-tbs.ts';
import { type ParsedCertificate, parseCertificate } from '../../src/x509/certificate.ts';
import { buildCsr } from '../../src/x509/csr.ts';
import {
  bitString,
  boolean,
  explicit,
  implicit,
  integer,
  octetString,
  oid,
  sequence,
  set,
  utf8String,
} from '../../src/x509/der.ts';
import { emptyName, rdnName } from '../../src/x509/name.ts';
import { type SoftwareAuthority, softwareAuthority, trustDomain } from '../support/software-authority.ts';
import { Enrollee, enrollmentOver, newToken, spkiOf } from './support/enrollee.ts';
import { codeOf } from './support/refusal.ts';

let authority: SoftwareAuthority;
let enrollment: Enrollment;
beforeEach(async () => {
  authority = await softwareAuthority();
  enrollment = enrollmentOver(authority);
});
afterEach(() => authority.close());

const own = `spiffe://${trustDomain}/orders`;

/** A CSR with any subject, extensions and further attributes, well signed with the enrollee's key. */
function csrOf(
  who: Enrollee,
  parts: { subject?: Buffer; extensions?: Buffer[]; attributes?: Buffer[] },
): Buffer {
  const { subject = emptyName, extensions = [], attributes = [] } = parts;
  const requested =
    extensions.length > 0 ? [attribute('1.2.840.113549.1.9.14', sequence(...extensions))] : [];
  const info = sequence(integer(0n), subject, spkiOf(who.key), explicit(0, ...requested, ...attributes));
  return assembleSigned(info, 'ecdsa-sha256', sign('sha256', info, who.key));
}

function attribute(type: string, value: Buffer): Buffer {
  return sequence(oid(type), set(value));
}

function extension(type: string, value: Buffer, critical = false): Buffer {
  return sequence(oid(type), ...(critical ? [boolean(true)] : []), octetString(value));
}

const san = (...names: Buffer[]): Buffer => extension('2.5.29.17', sequence(...names));
const uri = (text: string): Buffer => implicit(6, Buffer.from(text, 'latin1'));
const dns = (text: string): Buffer => implicit(2, Buffer.from(text, 'latin1'));
const email = (text: string): Buffer => implicit(1, Buffer.from(text, 'latin1'));

/** All of a certificate that is not of its key, its serial or its time. */
function saysOf(certificate: ParsedCertificate) {
  const { uris, dnsNames, ipAddresses, otherNames, subjectName, basicConstraints, keyUsage } = certificate;
  const { extendedKeyUsage, extensionOids, nameConstraints, criticalUnknown, sanCritical } = certificate;
  const says = { uris, dnsNames, ipAddresses, otherNames, basicConstraints, keyUsage };
  const rest = { extendedKeyUsage, extensionOids, nameConstraints, criticalUnknown, sanCritical };
  return { ...says, ...rest, subjectName: subjectName.toString('hex') };
}

/** What the entry of `newToken` gives, whatever is asked. */
const given = {
  uris: [own],
  dnsNames: ['orders.test.example'],
  ipAddresses: ['192.0.2.7'],
  otherNames: 0,
  basicConstraints: { critical: true, isCa: false, pathLength: undefined },
  keyUsage: expect.objectContaining({
    digitalSignature: true,
    keyCertSign: false,
    cRLSign: false,
  }) as unknown,
  extendedKeyUsage: ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'],
  extensionOids: expect.any(Array) as unknown,
  nameConstraints: undefined,
  criticalUnknown: [],
  sanCritical: true,
  subjectName: emptyName.toString('hex'),
};

describe('[guard] a CSR that asks for', () => {
  const foreign: [string, (who: Enrollee) => Buffer][] = [
    [
      "another's SPIFFE ID",
      (who) => csrOf(who, { extensions: [san(uri(`spiffe://${trustDomain}/billing`))] }),
    ],
    [
      "the server's SPIFFE ID",
      (who) => csrOf(who, { extensions: [san(uri(`spiffe://${trustDomain}/vouch/server`))] }),
    ],
    [
      'its SPIFFE ID in another trust domain',
      (who) => csrOf(who, { extensions: [san(uri('spiffe://evil.example/orders'))] }),
    ],
    ['its SPIFFE ID in capitals', (who) => csrOf(who, { extensions: [san(uri(own.toUpperCase()))] })],
    [
      'its SPIFFE ID with a dot segment',
      (who) => csrOf(who, { extensions: [san(uri(`spiffe://${trustDomain}/x/../orders`))] }),
    ],
    [
      'its SPIFFE ID with an encoded segment',
      (who) => csrOf(who, { extensions: [san(uri(`spiffe://${trustDomain}/%6frders`))] }),
    ],
    ["another's DNS name", (who) => csrOf(who, { extensions: [san(dns('billing.test.example'))] })],
    [
      'its DNS name and another',
      (who) => csrOf(who, { extensions: [san(dns('orders.test.example'), dns('evil.example'))] }),
    ],
    ['a wildcard', (who) => csrOf(who, { extensions: [san(dns('*.test.example'))] })],
    ['another address', (who) => csrOf(who, { extensions: [san(implicit(7, Buffer.from([192, 0, 2, 8])))] })],
    ['an e-mail address', (who) => csrOf(who, { extensions: [san(uri(own), email('root@test.example'))] })],
    [
      'a directory name',
      (who) => csrOf(who, { extensions: [san(explicit(4, rdnName({ commonName: 'admin' })))] }),
    ],
  ];
  test.each(foreign)('%s is refused, and nothing of it is used up', async (_name, csr) => {
    const { token, tokenId } = await newToken(authority);
    const size = authority.store.treeSize();
    const who = new Enrollee();
    expect(await codeOf(() => who.enroll(enrollment, token, csr(who)))).toBe('policy-names');
    expect(authority.store.treeSize()).toBe(size);
    expect(authority.store.token(tokenId)?.usesTaken).toBe(0);
  });
});

describe('a CSR that asks for', () => {
  const keyUsage = (bit: number): Buffer => {
    return extension('2.5.29.15', bitString(Buffer.from([0x80 >> bit]), 7 - bit), true);
  };
  const power: [string, (who: Enrollee) => Buffer][] = [
    [
      'a CA certificate',
      (who) => csrOf(who, { extensions: [extension('2.5.29.19', sequence(boolean(true)), true)] }),
    ],
    ['keyCertSign', (who) => csrOf(who, { extensions: [keyUsage(5)] })],
    ['cRLSign', (who) => csrOf(who, { extensions: [keyUsage(6)] })],
    [
      'two SPIFFE IDs',
      (who) => csrOf(who, { extensions: [san(uri(own), uri(`spiffe://${trustDomain}/billing`))] }),
    ],
    ['its own SPIFFE ID twice', (who) => csrOf(who, { extensions: [san(uri(own), uri(own))] })],
    [
      'names twice over',
      (who) => csrOf(who, { extensions: [san(uri(own)), san(uri(`spiffe://${trustDomain}/billing`))] }),
    ],
    [
      'two extensionRequests',
      (who) => {
        const asked = (id: string): Buffer => attribute('1.2.840.113549.1.9.14', sequence(san(uri(id))));
        return csrOf(who, { attributes: [asked(own), asked(`spiffe://${trustDomain}/billing`)] });
      },
    ],
  ];
  test.each(power)('%s is refused before any key arithmetic counts', async (_name, csr) => {
    const { token } = await newToken(authority);
    const who = new Enrollee();
    expect(await codeOf(() => who.enroll(enrollment, token, csr(who)))).toMatch(
      /^(?:request-csr|policy-names)$/,
    );
    expect(authority.signer.signedLeaves).toHaveLength(0);
  });

  const decoration: [string, (who: Enrollee) => Buffer, string?][] = [
    ['nothing', (who) => buildCsr(who.key)],
    ['exactly its names', (who) => buildCsr(who.key, { uris: [own], dnsNames: ['orders.test.example'] })],
    ['a subject', (who) => csrOf(who, { subject: rdnName({ commonName: 'admin', organization: 'Evil' }) })],
    ['a common name that is a host', (who) => buildCsr(who.key, { commonName: 'billing.test.example' })],
    [
      'code signing and any usage',
      (who) => {
        const usages = sequence(oid('1.3.6.1.5.5.7.3.3'), oid('2.5.29.37.0'), oid('1.3.6.1.5.5.7.3.9'));
        return csrOf(who, { extensions: [extension('2.5.29.37', usages)] });
      },
    ],
    ['key agreement', (who) => csrOf(who, { extensions: [keyUsage(4)] })],
    [
      'a Microsoft certificate template',
      (who) => csrOf(who, { extensions: [extension('1.3.6.1.4.1.311.20.2', utf8String('SubCA'))] }),
    ],
    [
      'an unknown critical extension',
      (who) => csrOf(who, { extensions: [extension('1.2.3.4.5', Buffer.from('0500', 'hex'), true)] }),
    ],
    [
      'OCSP no-check',
      (who) => csrOf(who, { extensions: [extension('1.3.6.1.5.5.7.48.1.5', Buffer.from('0500', 'hex'))] }),
    ],
    [
      'an own revocation address',
      (who) => {
        const point = sequence(explicit(0, explicit(0, uri('http://evil.example/empty.crl'))));
        return csrOf(who, { extensions: [extension('2.5.29.31', sequence(point))] });
      },
    ],
    [
      'a challenge password',
      (who) => csrOf(who, { attributes: [attribute('1.2.840.113549.1.9.7', utf8String('secret'))] }),
    ],
  ];
  test.each(decoration.map(([name, csr, code = 'allowed']) => [name, csr, code] as const))(
    '%s gets what its entry says and not a byte more',
    async (_name, csr, code) => {
      const { token } = await newToken(authority);
      const who = new Enrollee();
      const der = await derOrCode(() => who.enroll(enrollment, token, csr(who)));
      if (typeof der === 'string') {
        expect(der).toBe(code);
        return;
      }
      expect(code).toBe('allowed');
      const certificate = parseCertificate(der);
      expect(saysOf(certificate)).toEqual(given);
      expect(saysOf(certificate)).toEqual(saysOf(await plainCertificate()));
      expect(certificate.crlUrls.join()).not.toContain('evil');
      expect(certificate.spki.equals(who.publicKey.spki)).toBe(true);
    },
  );
});

test('[guard] of arbitrary names in a CSR none reaches a certificate', async () => {
  const plain = saysOf(await plainCertificate());
  const label = fc.stringMatching(/^[a-z][a-z0-9-]{0,8}[a-z0-9]$/);
  const names = fc.record({
    uris: fc.array(
      fc.oneof(
        fc.constant(own),
        label.map((text) => `spiffe://${trustDomain}/${text}`),
      ),
      { maxLength: 2 },
    ),
    dnsNames: fc.array(
      fc.oneof(
        fc.constant('orders.test.example'),
        label.map((text) => `${text}.example`),
      ),
      { maxLength: 3 },
    ),
    ipAddresses: fc.array(fc.oneof(fc.constant('192.0.2.7'), fc.ipV4()), { maxLength: 2 }),
    commonName: fc.option(label, { nil: undefined }),
  });
  await fc.assert(
    fc.asyncProperty(names, async (asked) => {
      const { token } = await newToken(authority);
      const who = new Enrollee();
      const fitting =
        asked.uris.every((one) => one === own) &&
        asked.dnsNames.every((one) => one === 'orders.test.example') &&
        asked.ipAddresses.every((one) => one === '192.0.2.7');
      const der = await derOrCode(() => who.enroll(enrollment, token, buildCsr(who.key, asked)));
      if (typeof der === 'string') {
        expect(der).toMatch(/^(?:request-csr|policy-names)$/);
        return;
      }
      expect(saysOf(parseCertificate(der))).toEqual(plain);
      expect(fitting).toBe(true);
    }),
    { numRuns: 60 },
  );
});

describe('a renewal', () => {
  test('[guard] does not get the names that its CSR asks for', async () => {
    const { first, standing } = await enrolled();
    const who = new Enrollee();
    const csr = csrOf(who, { extensions: [san(uri(`spiffe://${trustDomain}/billing`))] });
    expect(await codeOf(() => who.renew(enrollment, standing, first, csr))).toBe('policy-names');
  });

  test('gets the names of its entry, not those of the certificate that asks', async () => {
    const { first, standing } = await enrolled();
    const { issued } = await new Enrollee().renew(enrollment, standing, first);
    expect(saysOf(parseCertificate(issued.der))).toEqual(given);
  });

  test('is refused where entry and certificate are not of one identity', async () => {
    const { first, standing } = await enrolled();
    const other = await newToken(authority, {
      spiffeId: `spiffe://${trustDomain}/billing`,
      dnsNames: [],
      ipAddresses: [],
    });
    const entryId = authority.store.token(other.tokenId)?.entryId;
    const moved = { ...standing, entryId };
    expect(await codeOf(() => new Enrollee().renew(enrollment, moved, first))).toBe('denied-certificate');
    const lost = { ...standing, entryId: undefined };
    expect(await codeOf(() => new Enrollee().renew(enrollment, lost, first))).toBe('denied-certificate');
  });
});

test('the key is the CSR’s own: a CSR signed with another key than it carries is refused', async () => {
  const { token } = await newToken(authority);
  const who = new Enrollee();
  const victim = new Enrollee();
  const info = sequence(integer(0n), emptyName, victim.publicKey.spki, explicit(0));
  const stolen = assembleSigned(info, 'ecdsa-sha256', sign('sha256', info, who.key));
  expect(await codeOf(() => who.enroll(enrollment, token, stolen))).toBe('request-csr');
  // Nor does a CSR that somebody else has signed help: the binding is not theirs.
  expect(await codeOf(() => who.enroll(enrollment, token, buildCsr(victim.key)))).toBe('request-binding');
});

/** What an enrollment gives: DER of a certificate, or the code that it was refused with. */
async function derOrCode(enroll: () => Promise<{ issued: { der: Buffer } }>): Promise<Buffer | string> {
  let der: Buffer = Buffer.alloc(0);
  const code = await codeOf(async () => {
    der = (await enroll()).issued.der;
  });
  return code === 'allowed' ? der : code;
}

async function plainCertificate(): Promise<ParsedCertificate> {
  const { token } = await newToken(authority);
  const { issued } = await new Enrollee().enroll(enrollment, token);
  return parseCertificate(issued.der);
}

async function enrolled() {
  const { token } = await newToken(authority);
  const { issued } = await new Enrollee().enroll(enrollment, token);
  const standing = authority.store.certificate(issued.record.issuerKeyId, issued.record.serial);
  if (!standing) throw new Error('an issued certificate is in the store');
  return { first: issued.der, standing };
}
