import { execFileSync, spawnSync } from 'node:child_process';
import { createPublicKey, hash, X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pkcs11 from 'pkcs11js';
import { beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { parseTrustDomain } from '../../src/core/spiffe-id.ts';
import { openStatement } from '../../src/log/statement.ts';
import {
  type CeremonyOptions,
  type CeremonyRecord,
  type CeremonyResult,
  constrainedTo,
  createLogKey,
  runCeremony,
  signStatement,
} from '../../src/signer/ceremony.ts';
import { HsmToken } from '../../src/signer/pkcs11/token.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { parseCrl } from '../../src/x509/crl.ts';
import { encodePem } from '../../src/x509/pem.ts';
import { keyIdOf } from '../../src/x509/public-key.ts';
import { newTestToken, temporaryFolder, type TestToken } from '../support/hsm.ts';
import { builtSigner } from '../support/signer-build.ts';

const trustDomain = parseTrustDomain('prod.example');
const folder = temporaryFolder('ceremony');
let online: TestToken;
let root: TestToken;
let options: CeremonyOptions;
let result: CeremonyResult;
const records: CeremonyRecord[] = [];
/** What the tokens held when each record was logged. */
const keysWhenLogged: number[] = [];
const files: Record<string, string> = {};

/** CKA_ID of each private key, with its attributes as a PKCS#11 client reads them. */
function privateKeys(token: TestToken): Map<string, Record<string, number | undefined>> {
  Object.assign(process.env, token.hsm.environment);
  const opened = HsmToken.open(token.hsm, { readWrite: false });
  try {
    opened.login(token.hsm.pinFile, join(folder, 'pin-refused'));
    const attributes = [
      'SIGN',
      'DECRYPT',
      'UNWRAP',
      'DERIVE',
      'SENSITIVE',
      'EXTRACTABLE',
      'ALWAYS_SENSITIVE',
      'NEVER_EXTRACTABLE',
      'LOCAL',
      'PRIVATE',
      'TOKEN',
    ] as const;
    return new Map(
      opened
        .find([{ type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PRIVATE_KEY }])
        .map((key) => [
          opened.attribute(key, pkcs11.CKA_ID)?.toString('hex') ?? '',
          Object.fromEntries(
            attributes.map((name) => [name, opened.attribute(key, pkcs11[`CKA_${name}`])?.[0]]),
          ),
        ]),
    );
  } finally {
    opened.module.C_Finalize();
  }
}

beforeAll(async () => {
  online = newTestToken('online', folder);
  root = newTestToken('root', folder);
  options = {
    refusedPrefix: `${folder}/`,
    entry: await builtSigner(),
    ...{ hsm: online.hsm, rootHsm: root.hsm, trustDomain, logOrigin: 'prod.example/vouch-log' },
    ...{ publicationUrl: 'http://pki.prod.example', clock: systemClock, serialPrefix: 0x11 },
    keyTypes: { root: 'ec-p384', issuer: 'ec-p256', log: undefined },
    nameConstraints: constrainedTo(trustDomain),
    log: () => undefined,
    logAhead: (record) => {
      records.push(record);
      keysWhenLogged.push(privateKeys(root).size);
      return Promise.resolve();
    },
  };
  result = await runCeremony(options);
  for (const [name, der] of [
    ['root', result.root.certificateDer],
    ['issuer', result.issuer.certificateDer],
  ] as const) {
    files[name] = join(folder, `${name}.pem`);
    writeFileSync(files[name], encodePem('CERTIFICATE', der));
  }
  files.crl = join(folder, 'root.crl.pem');
  writeFileSync(files.crl, encodePem('X509 CRL', result.rootCrl.der));
});

describe('the ceremony', () => {
  it('makes a chain that OpenSSL accepts with -x509_strict and CRL check', () => {
    const args = [
      'verify',
      '-x509_strict',
      '-crl_check',
      '-CAfile',
      files.root ?? '',
      '-CRLfile',
      files.crl ?? '',
      files.issuer ?? '',
    ];
    expect(execFileSync('openssl', args, { encoding: 'utf8' })).toMatch(/OK/);
    const crl = spawnSync(
      'openssl',
      ['crl', '-in', files.crl ?? '', '-CAfile', files.root ?? '', '-noout', '-crlnumber'],
      { encoding: 'utf8' },
    );
    expect(crl.stderr).toMatch(/verify OK/);
    expect(BigInt(crl.stdout.trim().replace('crlNumber=', ''))).toBe(result.rootCrl.crlNumber);
  });

  it('makes a root of ten years that says who it is', () => {
    const certificate = parseCertificate(result.root.certificateDer);
    expect(certificate.uris).toEqual(['spiffe://prod.example']);
    expect(certificate.basicConstraints).toMatchObject({ critical: true, isCa: true, pathLength: undefined });
    expect(certificate.keyUsage).toMatchObject({
      critical: true,
      keyCertSign: true,
      cRLSign: true,
      digitalSignature: false,
    });
    expect(certificate.serial).toMatch(/^11[0-9a-f]{32}$/);
    expect(certificate.notAfterMs - certificate.notBeforeMs).toBe((3650 * 86_400 + 60 - 1) * 1000);
    expect(certificate.extendedKeyUsage).toBeUndefined();
    expect(certificate.algorithm).toBe('ecdsa-sha384');
    const point = certificate.spki.subarray(-97);
    expect(certificate.subjectKeyId).toBe(hash('sha256', point, 'hex').slice(0, 40));
    expect(result.root.keyId).toBe(certificate.subjectKeyId);
    expect(new X509Certificate(result.root.certificateDer).publicKey.asymmetricKeyDetails?.namedCurve).toBe(
      'secp384r1',
    );
  });

  it('makes an issuer that signs leaves of this trust domain only', () => {
    const certificate = parseCertificate(result.issuer.certificateDer);
    expect(certificate.basicConstraints).toMatchObject({ critical: true, isCa: true, pathLength: 0 });
    expect(certificate.crlUrls).toEqual([`http://pki.prod.example/crl/${result.root.keyId}.crl`]);
    expect(certificate.issuerUrls).toEqual([`http://pki.prod.example/ca/${result.root.keyId}.cer`]);
    expect(certificate.uris).toEqual(['spiffe://prod.example']);
    expect(certificate.nameConstraints).toMatchObject({
      critical: true,
      permitted: { uriDomains: ['prod.example'] },
    });
    expect(certificate.notAfterMs - certificate.notBeforeMs).toBe((90 * 86_400 + 60 - 1) * 1000);
    expect(certificate.authorityKeyId).toBe(result.root.keyId);
    expect(keyIdOf(certificate.spki)).toBe(result.issuer.keyId);
    expect(certificate.issuerName).toEqual(parseCertificate(result.root.certificateDer).subjectName);
    expect(certificate.subjectName).not.toEqual(certificate.issuerName);
  });

  it('makes a root CRL of a year without entries', () => {
    const crl = parseCrl(result.rootCrl.der);
    expect(crl.count).toBe(0);
    expect(crl.crlNumber).toBe(result.rootCrl.crlNumber);
    expect(crl.nextUpdateSeconds - crl.thisUpdateSeconds).toBe(365 * 86_400);
    expect(crl.thisUpdateSeconds * 1000).toBeLessThanOrEqual(systemClock.now());
    expect(crl.idp).toBeUndefined();
  });

  it("makes a statement that the root's key opens", () => {
    const statement = openStatement(
      result.statement,
      new X509Certificate(result.root.certificateDer).publicKey,
    );
    expect(statement).toMatchObject({
      trustDomain,
      sequence: 1,
      publicationUrls: ['http://pki.prod.example'],
    });
    expect(statement.logKeys).toEqual([
      { name: 'prod.example/vouch-log', algorithm: 'ed25519', publicKeySpki: result.logKey.publicKeySpki },
    ]);
    expect(Buffer.from(result.statement.split('.')[0] ?? '', 'base64url').toString()).toContain(
      '"alg":"ES384"',
    );
  });

  it('has everything logged before it is signed, byte for byte (I1)', () => {
    expect(records.map(({ kind }) => kind)).toEqual(['authority', 'crl', 'authority', 'statement']);
    const [rootRecord, crlRecord, issuerRecord, statementRecord] = records;
    expect(parseCertificate(result.root.certificateDer).tbs).toEqual(rootRecord?.tbs);
    expect(parseCrl(result.rootCrl.der).tbs).toEqual(crlRecord?.tbs);
    expect(parseCertificate(result.issuer.certificateDer).tbs).toEqual(issuerRecord?.tbs);
    expect(result.statement.startsWith(`${statementRecord?.tbs.toString()}.`)).toBe(true);
    expect(issuerRecord).toMatchObject({
      role: 'issuer',
      keyId: result.issuer.keyId,
      issuerKeyId: result.root.keyId,
    });
    expect(keysWhenLogged).toEqual([1, 1, 1, 1]);
  });

  it('leaves keys that sign and never leave their tokens, the root alone in its own', () => {
    expect([...privateKeys(root).keys()]).toEqual([result.root.ckaId]);
    expect([...privateKeys(online).keys()].sort()).toEqual([result.issuer.ckaId, result.logKey.ckaId].sort());
    for (const attributes of [...privateKeys(root).values(), ...privateKeys(online).values()])
      expect(attributes).toEqual({
        ...{ SIGN: 1, DECRYPT: 0, UNWRAP: 0, DERIVE: 0, SENSITIVE: 1, EXTRACTABLE: 0 },
        ...{ ALWAYS_SENSITIVE: 1, NEVER_EXTRACTABLE: 1, LOCAL: 1, PRIVATE: 1, TOKEN: 1 },
      });
  });

  it('signs nothing that could not be logged', async () => {
    const tokens = { hsm: newTestToken('a', folder).hsm, rootHsm: newTestToken('b', folder).hsm };
    for (const failing of ['authority', 'crl', 'statement']) {
      const failed = runCeremony({
        ...options,
        ...tokens,
        logAhead: (record) =>
          record.kind === failing ? Promise.reject(new Error('disk full')) : Promise.resolve(),
      });
      await expect(failed).rejects.toThrow('disk full');
    }
  });

  it('says what is wrong with a token or PIN, and does not retry it', async () => {
    const bad = newTestToken('bad', folder);
    writeFileSync(bad.hsm.pinFile, 'wrong-pin');
    const refusedFolder = temporaryFolder('refused');
    const attempt = () => runCeremony({ ...options, rootHsm: bad.hsm, refusedPrefix: `${refusedFolder}/` });
    await expect(attempt()).rejects.toMatchObject({
      code: 'config-pin',
      message: expect.stringMatching(/CKR_PIN_INCORRECT/),
    });
    await expect(attempt()).rejects.toMatchObject({
      code: 'config-pin',
      message: expect.stringMatching(/not presented again/),
    });
    expect(readFileSync(join(refusedFolder, 'root-pin-refused'), 'utf8')).not.toContain('wrong-pin');
    await expect(
      runCeremony({ ...options, rootHsm: { ...root.hsm, tokenSerial: '00' } }),
    ).rejects.toMatchObject({ code: 'config-hsm' });
  });
});

describe('after the ceremony', () => {
  it('the root signs another statement, for another log key (restore)', async () => {
    const { entry, hsm, log } = options;
    const logKey = await createLogKey({ entry, hsm, log, refusedPrefix: `${folder}/`, type: undefined });
    expect(logKey.ckaId).not.toBe(result.logKey.ckaId);
    const rootKey = {
      ckaId: result.root.ckaId,
      algorithm: result.root.algorithm,
      publicKeySpki: parseCertificate(result.root.certificateDer).spki,
    };
    const statement = {
      trustDomain,
      sequence: 2,
      notAfterMs: (Math.floor(systemClock.now() / 1000) + 86_400) * 1000,
      logKeys: [
        {
          name: 'prod.example/vouch-log-2',
          algorithm: logKey.algorithm,
          publicKeySpki: logKey.publicKeySpki,
        },
      ],
      publicationUrls: ['http://pki.prod.example'],
    };
    const logged: CeremonyRecord[] = [];
    const jws = await signStatement({
      ...options,
      rootKey,
      statement,
      logAhead: (record) => Promise.resolve(void logged.push(record)),
    });
    expect(openStatement(jws, new X509Certificate(result.root.certificateDer).publicKey)).toEqual(statement);
    expect(logged).toMatchObject([{ kind: 'statement', sequence: 2, rootKeyId: result.root.keyId }]);
    const other = {
      ...rootKey,
      publicKeySpki: createPublicKey(files.issuer ? readFileSync(files.issuer) : '').export({
        format: 'der',
        type: 'spki',
      }),
    };
    await expect(signStatement({ ...options, rootKey: other, statement })).rejects.toMatchObject({
      code: 'config-hsm',
    });
  });
});

describe('name constraints', () => {
  it('are refused for a trust domain that looks like an IP address', () => {
    for (const text of ['10.0.0.1', '1', 'a.1', '127.0.0.1.', '0x7f.1', 'a.0x7f'])
      expect(() => constrainedTo(parseTrustDomain(text))).toThrow(
        expect.objectContaining({ code: 'config-invalid' }),
      );
    for (const text of ['prod.example', '10.example', 'a1', '1a', 'x_y'])
      expect(constrainedTo(parseTrustDomain(text))).toEqual({ permittedUriDomains: [text] });
  });
});
