import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import type { Serial } from '../../src/core/serial.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import {
  buildResponseData,
  type OcspAnswer,
  ocspRefusal,
  ocspResponse,
  type OcspStatus,
  parseOcspRequest,
} from '../../src/x509/ocsp.ts';
import { encodePem } from '../../src/x509/pem.ts';
import { ecKey, ed25519Key, rsaKey, signatureOver, type TestKey } from '../x509/authority.ts';
import { ArtefactDirectory, CurrentAuthority, runTool } from '../x509/oracle-tools.ts';

const authority = new CurrentAuthority();
const folder = new ArtefactDirectory();
afterAll(() => folder[Symbol.dispose]());

const { nowSeconds, issuer } = authority;
const leaf = authority.leaf();
const { serial } = parseCertificate(leaf);
const issuerPem = folder.write('issuer.pem', encodePem('CERTIFICATE', issuer.der));
const rootPem = folder.write(
  'root.pem',
  [authority.root.der, issuer.der].map((der) => encodePem('CERTIFICATE', der)).join(''),
);
const leafPem = folder.write('leaf.pem', encodePem('CERTIFICATE', leaf));
const names = ['-issuer', issuerPem, '-cert', leafPem];

/** What a responder with this key says of the leaf. */
function responseWith(change: Partial<OcspAnswer> = {}, key: TestKey = ecKey(), isResponder = true): Buffer {
  const responderDer = authority.leaf({
    spki: key.info.spki,
    subjectKeyId: key.info.keyId,
    ocspSigning: isResponder,
  });
  const responseData = buildResponseData(
    { nameDer: issuer.name, spki: issuer.key.info.spki },
    key.info.spki,
    {
      form: { hash: 'sha1', hasParameters: true, serial },
      status: { kind: 'good' },
      producedAtSeconds: nowSeconds,
      thisUpdateSeconds: nowSeconds,
      nextUpdateSeconds: nowSeconds + 3600,
      nonce: undefined,
      ...change,
    },
  );
  const signature = signatureOver(responseData, key);
  return ocspResponse({ responseData, algorithm: key.algorithm, signature, responderDer });
}

/** What `openssl ocsp` says of a response to a request of its own. */
function read(response: Buffer, ...flags: string[]): string {
  const file = folder.write('response.der', response);
  return runTool('openssl', 'ocsp', ...flags, ...names, '-respin', file, '-CAfile', rootPem).output;
}

describe('openssl ocsp', () => {
  it('writes requests that are read, by SHA-1 and SHA-256, with a nonce', () => {
    for (const hash of ['sha1', 'sha256'] as const) {
      const file = folder.write('request.der', '');
      runTool('openssl', 'ocsp', '-issuer', issuerPem, `-${hash}`, '-cert', leafPem, '-reqout', file);
      const { certId, nonce } = parseOcspRequest(readFileSync(file));
      expect({ hash: certId.hash, serial: certId.serial }).toEqual({ hash, serial });
      expect(nonce?.length).toBe(16);
    }
  });

  const statuses: [OcspStatus, RegExp][] = [
    [{ kind: 'good' }, /: good\n/],
    [{ kind: 'revoked', atSeconds: nowSeconds - 9, reason: 'certificateHold' }, /revoked[^]*certificateHold/],
    [{ kind: 'revoked', atSeconds: nowSeconds - 9, reason: 'keyCompromise' }, /revoked[^]*keyCompromise/],
    [{ kind: 'revoked', atSeconds: nowSeconds - 9, reason: 'unspecified' }, /revoked(?![^]*Reason)/],
  ];
  it.each(statuses)('believes %j', (status, said) => {
    const output = read(responseWith({ status }), '-no_nonce');
    expect(output).toMatch(/Response verify OK/);
    expect(output).toMatch(said);
    expect(output).not.toMatch(/WARNING|ERROR/);
  });

  it('believes it by SHA-256, and by every type of key', () => {
    const form = { hash: 'sha256', hasParameters: true, serial } as const;
    expect(read(responseWith({ form }), '-sha256', '-no_nonce')).toMatch(/: good\n[^]*verify OK/);
    for (const key of [ecKey('P-384'), rsaKey(), ed25519Key()])
      expect(read(responseWith({}, key), '-no_nonce')).toMatch(/: good\n[^]*verify OK/);
  });

  it('finds its nonce again', () => {
    const file = folder.write('request.der', '');
    runTool('openssl', 'ocsp', ...names, '-reqout', file);
    const { nonce } = parseOcspRequest(readFileSync(file));
    const answer = folder.write('response.der', responseWith({ nonce }));
    const both = ['-reqin', file, '-respin', answer, '-issuer', issuerPem, '-CAfile', rootPem];
    expect(runTool('openssl', 'ocsp', ...both).output).toMatch(/^Response verify OK/);
    const other = folder.write('response.der', responseWith({ nonce: Buffer.alloc(16) }));
    expect(other).toBe(answer);
    expect(runTool('openssl', 'ocsp', ...both).output).toMatch(/Nonce Verify error/);
  });

  it('refuses one of another serial, of another issuer, past its nextUpdate, and by a leaf without the usage', () => {
    const form = { hash: 'sha1', hasParameters: true, serial: `01${'00'.repeat(16)}` as Serial } as const;
    expect(read(responseWith({ form }), '-no_nonce')).toMatch(/No Status found/);
    const past = { thisUpdateSeconds: nowSeconds - 7200, nextUpdateSeconds: nowSeconds - 3600 };
    expect(read(responseWith(past), '-no_nonce')).toMatch(/expired/);
    expect(read(responseWith({}, ecKey(), false), '-no_nonce')).toMatch(/Verify Failure/i);
  });

  it('reads why there is no answer', () => {
    expect(read(ocspRefusal('unauthorized'))).toMatch(/unauthorized \(6\)/);
    expect(read(ocspRefusal('tryLater'))).toMatch(/trylater \(3\)/);
    expect(read(ocspRefusal('malformedRequest'))).toMatch(/malformedrequest \(1\)/);
  });
});
