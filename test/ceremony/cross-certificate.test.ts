import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { checkCrossChain, type CrossCertified } from '../../src/ceremony/cross-certificate.ts';
import { newSerial } from '../../src/core/serial.ts';
import { parseTrustDomain } from '../../src/core/spiffe-id.ts';
import { rdnName } from '../../src/x509/name.ts';
import { decodePem, encodePem } from '../../src/x509/pem.ts';
import { type Certifying, CorporateCa } from '../support/corporate-ca.ts';
import { newFolder } from '../support/running.ts';
import { csrOf, softwareKey, SoftwareRoot } from './software-ceremony.ts';

const day = 86_400;
/** What OpenSSL makes from here on is valid then. */
const nowMs = Date.now() + 3_600_000;
const trustDomain = parseTrustDomain('test.example');
const root = new SoftwareRoot();
const corporate = new CorporateCa(newFolder());
const ours = oursOf(root);
const csr = csrPem(root.name);

/** A root and its issuer, of 90 days. */
function oursOf(signer: SoftwareRoot): CrossCertified {
  const now = Math.floor(nowMs / 1000);
  const common = (days: number) => ({
    ...{ trustDomain, rootName: signer.name },
    serial: newSerial(0x21, (size) => Buffer.alloc(size, days % 250)),
    validity: { notBeforeSeconds: now - 7200, notAfterSeconds: now + days * day },
  });
  const issuer = {
    ...{ kind: 'issuer-certificate' as const, ...common(90), spki: softwareKey().spki },
    ...{ publicationUrl: 'http://pki.test.example', nameConstraints: undefined },
  };
  return {
    rootDer: signer.sign({ kind: 'root-certificate', ...common(3000) }).signed,
    issuerDer: signer.sign(issuer).signed,
    ...{ trustDomain, nowMs },
  };
}

function csrPem(rootName: Buffer): string {
  return encodePem('CERTIFICATE REQUEST', root.sign({ kind: 'root-csr', trustDomain, rootName }).signed);
}

function refusal(pem: string, change: Partial<CrossCertified> = {}): string {
  try {
    checkCrossChain(pem, { ...ours, ...change });
  } catch (error) {
    expect(error).toMatchObject({ code: 'denied-certificate' });
    return error instanceof Error ? error.message : '';
  }
  return 'taken';
}

function blocks(pem: string): string[] {
  return decodePem(pem, 'CERTIFICATE').map((der) => encodePem('CERTIFICATE', der));
}

const caUsage = 'keyUsage=critical,keyCertSign,cRLSign';
const isCa = 'basicConstraints=critical,CA:TRUE';
const keyIds = [`subjectKeyIdentifier=${root.keyId}`, 'authorityKeyIdentifier=keyid:always'];
const made = (extensions: readonly string[], more: Certifying = {}): string =>
  corporate.chain(csr, { extensions, ...more });

describe('a chain above our root', () => {
  it('is taken as a CA makes it that copies what root.csr asks for', () => {
    const taken = checkCrossChain(corporate.chain(csr), ours);
    expect(taken.warnings).toEqual([]);
    expect(taken.certificate.subjectName.equals(root.name)).toBe(true);
    expect(taken.certificate.subjectKeyId).toBe(root.keyId);
    expect(blocks(taken.chainPem)).toHaveLength(3);
  });

  it('is taken with room for one CA below, and with no policy CA between', () => {
    expect(refusal(made([`${isCa},pathlen:1`, caUsage, ...keyIds]))).toBe('taken');
    expect(refusal(corporate.chain(csr, { by: 'corporate' }))).toBe('taken');
  });

  it('is taken with a warning where it ends before our issuer, bounds DNS names or signs no CRLs', () => {
    expect(checkCrossChain(corporate.chain(csr, { days: 30 }), ours).warnings).toEqual([
      expect.stringMatching(/certificate 1 .*before our issuer/),
    ]);
    const bound = new CorporateCa(newFolder(), 'critical,permitted;DNS:corp.example');
    expect(checkCrossChain(bound.chain(csr), ours).warnings).toEqual([
      expect.stringMatching(/certificate 2 .*CN=Policy.*DNS permitted: corp\.example/),
    ]);
    const noCrls = made([isCa, 'keyUsage=critical,keyCertSign', ...keyIds]);
    expect(checkCrossChain(noCrls, ours).warnings).toEqual([expect.stringContaining('lacks cRLSign')]);
  });

  it.each<[string, () => string, RegExp]>([
    ['of another key', () => corporate.chain(csrOf(softwareKey())), /is of another key than our root/],
    [
      'of another name',
      () => corporate.chain(csrPem(rdnName({ commonName: 'Other' }))),
      /has the subject CN=Other/,
    ],
    ['in the reversed order', () => blocks(corporate.chain(csr)).toReversed().join(''), /is of another key/],
    [
      'that begins with our own root',
      () => encodePem('CERTIFICATE', ours.rootDer) + corporate.chain(csr),
      /our own self-signed one/,
    ],
    ['with path length 0', () => made([`${isCa},pathlen:0`, caUsage, ...keyIds]), /path is longer/],
    [
      'of a leaf',
      () => made(['basicConstraints=critical,CA:FALSE', 'keyUsage=critical,digitalSignature', ...keyIds]),
      /not a CA/,
    ],
    ['without basicConstraints', () => made([caUsage, ...keyIds]), /not a CA/],
    [
      'that may not sign certificates',
      () => made([isCa, 'keyUsage=critical,cRLSign', ...keyIds]),
      /may not sign certificates/,
    ],
    [
      'for other usages',
      () => made([isCa, caUsage, 'extendedKeyUsage=codeSigning', ...keyIds]),
      /for other usages/,
    ],
    [
      'with another key id, which OpenSSL would not find',
      () => made([isCa, caUsage, 'subjectKeyIdentifier=hash', keyIds[1] ?? '']),
      /subjectKeyIdentifier/,
    ],
    [
      'with a critical extension that nobody knows',
      () => made([isCa, caUsage, ...keyIds, '1.2.3.4=critical,ASN1:NULL']),
      /critical extensions that are not understood: 1\.2\.3\.4/,
    ],
    [
      'for the name of another trust domain',
      () => made([isCa, caUsage, ...keyIds, 'subjectAltName=URI:spiffe://evil.example'], { by: 'corporate' }),
      /names spiffe:\/\/evil\.example/,
    ],
    [
      'that excludes our trust domain itself',
      () => made([isCa, caUsage, ...keyIds, 'nameConstraints=critical,excluded;URI:test.example']),
      /certificate 1 .*outside the name constraints/,
    ],
    [
      'without the CA that signed it',
      () => blocks(corporate.chain(csr)).toSpliced(1, 1).join(''),
      /chain is broken/,
    ],
    [
      'without its root',
      () => blocks(corporate.chain(csr)).slice(0, 2).join(''),
      /does not end at a self-signed/,
    ],
    ['of one certificate', () => blocks(corporate.chain(csr))[0] ?? '', /it has 1 certificate/],
    ['that is no PEM', () => 'hello', /not valid PEM/],
  ])('%s is refused', (_what, pem, why) => {
    expect(refusal(pem())).toMatch(why);
  });

  it.each([
    'critical,permitted;URI:corp.example',
    'critical,excluded;URI:test.example',
    'critical,permitted;email:corp.example',
  ])('under a policy CA with the constraint %s is refused', (constraint) => {
    const other = new CorporateCa(newFolder(), constraint);
    expect(refusal(other.chain(csr))).toMatch(/certificate 2 .*CN=Policy.*name constraints/);
  });

  it('that has expired, or has yet to begin, is refused', () => {
    const pem = corporate.chain(csr, { days: 10 });
    expect(refusal(pem, { nowMs: nowMs + 11 * day * 1000 })).toMatch(/certificate 1 .*has expired/);
    expect(refusal(pem, { nowMs: nowMs - day * 1000 })).toMatch(/not valid yet/);
  });

  it('with a broken signature is refused, of whichever certificate', () => {
    const ders = decodePem(corporate.chain(csr), 'CERTIFICATE');
    for (const index of ders.keys()) {
      const broken = ders.map((der, at) => {
        const copy = Buffer.from(der);
        if (at === index) copy[copy.length - 1] = (copy.at(-1) ?? 0) ^ 1;
        return encodePem('CERTIFICATE', copy);
      });
      expect(refusal(broken.join('')), String(index)).toMatch(/is not signed by its issuer/);
    }
  });

  it('of another CA of the same names is refused: names are not enough', () => {
    const other = new CorporateCa(newFolder());
    const [first = ''] = blocks(corporate.chain(csr));
    const above = [other.policy, other.root].map((file) => readFileSync(file, 'utf8'));
    expect(refusal([first, ...above].join(''))).toMatch(/chain is broken|not signed/);
  });

  it('signed with SHA-1 is refused', () => {
    expect(refusal(corporate.chain(csr, { digest: 'sha1' }))).toMatch(
      /certificate 1 cannot be read: signature algorithm not accepted/,
    );
  });
});
