import { X509Certificate } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { parseTrustDomain } from '../../src/core/spiffe-id.ts';
import { openStatement } from '../../src/log/statement.ts';
import { type CeremonyOptions, type CeremonyResult, runCeremony } from '../../src/signer/ceremony.ts';
import { algorithmIdentifier } from '../../src/x509/algorithm.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { parseCrl } from '../../src/x509/crl.ts';
import { encodePem } from '../../src/x509/pem.ts';
import { importPublicKey } from '../../src/x509/public-key.ts';
import { type SigningKeyType, signingKeyTypes } from '../../src/x509/signing-key-type.ts';
import { keysIn } from '../support/daemon.ts';
import { newTestToken, temporaryFolder, withoutMechanism } from '../support/hsm.ts';
import { builtSigner } from '../support/signer-build.ts';
import { ArtefactDirectory, runTool } from '../x509/oracle-tools.ts';

const trustDomain = parseTrustDomain('prod.example');
const folder = temporaryFolder('types');
let options: CeremonyOptions;

beforeAll(async () => {
  options = {
    refusedPrefix: `${folder}/`,
    entry: await builtSigner(),
    hsm: newTestToken('online', folder).hsm,
    rootHsm: newTestToken('root', folder).hsm,
    ...{ trustDomain, logOrigin: 'prod.example/vouch-log', publicationUrl: 'http://pki.prod.example' },
    ...{ clock: systemClock, serialPrefix: 0x11, nameConstraints: undefined, log: () => undefined },
    keyTypes: { root: 'ec-p384', issuer: 'ec-p256', log: undefined },
    logAhead: () => Promise.resolve(),
  };
});

/** Each type as root and as issuer, with another beside it. */
const pairs: [root: SigningKeyType, issuer: SigningKeyType, jws: string][] = [
  ['ec-p256', 'rsa-4096', 'ES256'],
  ['ec-p384', 'rsa-3072-pss', 'ES384'],
  ['rsa-3072', 'ec-p384', 'RS256'],
  ['rsa-4096', 'ed25519', 'RS256'],
  ['rsa-3072-pss', 'rsa-3072', 'PS256'],
  ['rsa-4096-pss', 'ec-p256', 'PS256'],
  ['ed25519', 'rsa-4096-pss', 'EdDSA'],
];

describe.each(pairs)('root %s over issuer %s', (rootType, issuerType, jws) => {
  let result: CeremonyResult;

  beforeAll(async () => {
    result = await runCeremony({
      ...options,
      keyTypes: { root: rootType, issuer: issuerType, log: undefined },
    });
  });

  it('signs by its one algorithm, with its exact parameters, and certifies plain keys', () => {
    const { algorithm } = signingKeyTypes[rootType];
    const root = parseCertificate(result.root.certificateDer);
    const issuer = parseCertificate(result.issuer.certificateDer);
    expect(result.root.algorithm).toBe(algorithm);
    expect(result.issuer.algorithm).toBe(signingKeyTypes[issuerType].algorithm);
    for (const signed of [root, issuer, parseCrl(result.rootCrl.der)])
      expect(signed.algorithm).toBe(algorithm);
    for (const der of [result.root.certificateDer, result.issuer.certificateDer, result.rootCrl.der])
      expect(der.includes(algorithmIdentifier(algorithm))).toBe(true);
    expect(importPublicKey(root.spki).type).toBe(rootType.replace(/-pss$/, ''));
    expect(importPublicKey(issuer.spki).type).toBe(issuerType.replace(/-pss$/, ''));
  });

  it('makes a chain and a CRL that OpenSSL accepts with -x509_strict', () => {
    using files = new ArtefactDirectory();
    const root = files.write('root.pem', encodePem('CERTIFICATE', result.root.certificateDer));
    const issuer = files.write('issuer.pem', encodePem('CERTIFICATE', result.issuer.certificateDer));
    const crl = files.write('crl.pem', encodePem('X509 CRL', result.rootCrl.der));
    const verify = ['verify', '-x509_strict', '-crl_check', '-check_ss_sig', '-CAfile', root];
    expect(runTool('openssl', ...verify, '-CRLfile', crl, issuer)).toMatchObject({
      status: 0,
      output: expect.stringMatching(/: OK$/m),
    });
  });

  it('makes a statement that its key opens', () => {
    const { publicKey } = new X509Certificate(result.root.certificateDer);
    expect(openStatement(result.statement, publicKey)).toMatchObject({ trustDomain, sequence: 1 });
    const [header = ''] = result.statement.split('.');
    expect(JSON.parse(Buffer.from(header, 'base64url').toString())).toMatchObject({ alg: jws });
  });
});

describe('a log key', () => {
  const logKeyOf = async (log: 'ec-p256' | undefined, hsm = options.hsm) => {
    const keyTypes = { ...options.keyTypes, log };
    const { root, statement } = await runCeremony({ ...options, hsm, keyTypes });
    const { publicKey } = new X509Certificate(root.certificateDer);
    return openStatement(statement, publicKey).logKeys[0]?.algorithm;
  };

  it('is P-256 where that is asked for, or where the token has no Ed25519', async () => {
    const poor = newTestToken('poor', folder);
    withoutMechanism(poor.hsm, 'CKM_EDDSA');
    expect(await logKeyOf(undefined)).toBe('ed25519');
    expect(await logKeyOf('ec-p256')).toBe('ecdsa-p256');
    expect(await logKeyOf(undefined, poor.hsm)).toBe('ecdsa-p256');
  });
});

describe('a token that lacks a mechanism', () => {
  it.each<[SigningKeyType, Parameters<typeof withoutMechanism>[1], RegExp]>([
    [
      'rsa-4096',
      'CKM_RSA_PKCS_KEY_PAIR_GEN',
      /poor makes no rsa-4096 key: it has no CKM_RSA_PKCS_KEY_PAIR_GEN; choose one of ec-p256, ec-p384, ed25519$/,
    ],
    [
      'rsa-3072-pss',
      'CKM_RSA_PKCS_PSS',
      /no CKM_RSA_PKCS_PSS; choose one of ec-p256, ec-p384, rsa-3072, rsa-4096, ed25519$/,
    ],
    ['ed25519', 'CKM_EDDSA', /makes no ed25519 key: it has no CKM_EDDSA/],
    ['ec-p384', 'CKM_ECDSA', /makes no ec-p384 key: it has no CKM_ECDSA/],
  ])('is refused as the token of a root of %s, before a key is made in any', async (root, missing, why) => {
    const apart = temporaryFolder('poor');
    const [online, poor] = [newTestToken('online', apart), newTestToken('poor', apart)];
    withoutMechanism(poor.hsm, missing);
    const tokens = { hsm: online.hsm, rootHsm: poor.hsm };
    const attempt = runCeremony({ ...options, ...tokens, keyTypes: { ...options.keyTypes, root } });
    await expect(attempt).rejects.toMatchObject({ code: 'config-hsm', message: expect.stringMatching(why) });
    expect(keysIn(apart)).toEqual([]);
  });
});
