import 'reflect-metadata';
import { createPublicKey, type KeyObject, type webcrypto, X509Certificate } from 'node:crypto';
import type { Duplex } from 'node:stream';
import {
  Pkcs10CertificateRequest as SecondCsrReader,
  X509Certificate as SecondReader,
  X509Crl as SecondCrlReader,
} from '@peculiar/x509';
import { systemClock } from '../core/clock.ts';
import { assert, VouchError } from '../core/errors.ts';
import { trustDomainId } from '../core/spiffe-id.ts';
import { detachedJws } from '../log/root-jws.ts';
import { assembleStatement, openStatement } from '../log/statement.ts';
import { verifySignature } from '../x509/algorithm.ts';
import { assembleSigned } from '../x509/certificate-tbs.ts';
import { type Artefact, issuerNameOf, signingInput } from '../ceremony/artefacts.ts';
import { isLogKeyProofText } from '../ceremony/request.ts';
import { caCsrInfo, parseCsr } from '../x509/csr.ts';
import { keyIdOf } from '../x509/public-key.ts';
import { HsmCrypto, HsmCryptoKey, webAlgorithms } from './ceremony-crypto.ts';
import {
  type CeremonyStep,
  type CeremonySteps,
  decodeStep,
  encodeStep,
  stepOfCode,
} from './ceremony-protocol.ts';
import type { HsmKey } from './hsm.ts';
import { findPrivateKeys, TokenKey } from './pkcs11/key.ts';
import { generateKeyPair } from './pkcs11/key-pair.ts';
import { keyTypeProblems } from './pkcs11/mechanisms.ts';
import { signingMethods } from './pkcs11/signing.ts';
import { HsmToken } from './pkcs11/token.ts';
import { Session } from './session.ts';

/** The other side of `runCeremony`: serves one parent with one token, and ends with it. */
export async function runCeremonyChild(stream: Duplex): Promise<void> {
  const ceremony = new CeremonyChild();
  const session = new Session(
    stream,
    async (kind, payload) => {
      const step = stepOfCode(kind);
      if (!step)
        throw new VouchError('request-unknown-type', `a ceremony has no step ${kind}; nothing was signed`);
      return encodeStep(await ceremony.answer(step, decodeStep(payload)));
    },
    () => systemClock.monotonicMs(),
  );
  await session.ended;
  process.exit(0);
}

/** One token's part in a ceremony. Its calls block: there is nothing else for this process to do. */
class CeremonyChild {
  readonly #crypto = new HsmCrypto();
  #token: HsmToken | undefined;
  #root: TokenKey | undefined;
  #prepared: { artefact: Artefact; input: Buffer } | undefined;

  answer(step: CeremonyStep, request: unknown): unknown {
    switch (step) {
      case 'open':
        return this.#open(request as CeremonySteps['open']['request']);
      case 'createKey': {
        const key = generateKeyPair(this.#opened(), request as CeremonySteps['createKey']['request']);
        this.#root = new TokenKey(this.#opened(), key);
        return key;
      }
      case 'useKey':
        return this.#useKey(request as HsmKey);
      case 'findKeys':
        return findPrivateKeys(this.#opened(), request as CeremonySteps['findKeys']['request']);
      case 'requestCertificate':
        return this.#requestCertificate(request as CeremonySteps['requestCertificate']['request']);
      case 'proveLogKey':
        return this.#proveLogKey(request as CeremonySteps['proveLogKey']['request']);
      case 'prepare':
        return this.#prepare(request as Artefact);
      case 'sign':
        return this.#sign();
    }
  }

  #open({ hsm, refusedFile }: CeremonySteps['open']['request']): CeremonySteps['open']['answer'] {
    for (const [name, value] of Object.entries(hsm.environment)) process.env[name] = value;
    const token = HsmToken.open(hsm, { readWrite: true });
    token.login(hsm.pinFile, refusedFile);
    this.#token = token;
    return { keyTypeProblems: keyTypeProblems(token) };
  }

  #useKey(key: HsmKey): HsmKey {
    const root = new TokenKey(this.#opened(), key);
    // It may be one that was there before Vouch.
    root.prove('essential');
    this.#root = root;
    return key;
  }

  /** A CSR is no certificate: nothing is certified by it, so it needs no leaf (I1). */
  #requestCertificate({ trustDomain }: CeremonySteps['requestCertificate']['request']): Buffer {
    const key = this.#lastKey();
    const { algorithm, publicKeySpki: spki } = key.key;
    const subjectName = issuerNameOf(trustDomain, keyIdOf(spki));
    const info = caCsrInfo({ spki, subjectName, uri: trustDomainId(trustDomain), pathLength: 0 });
    const signature = key.signPrepared(signingMethods[algorithm].input(info));
    check(verifySignature(algorithm, publicKeyOf(spki), info, signature), 'CSR');
    return assembleSigned(info, algorithm, signature);
  }

  /** Nothing but a ceremony's request, whose text no checkpoint can have. */
  #proveLogKey({ text }: CeremonySteps['proveLogKey']['request']): Buffer {
    if (!isLogKeyProofText(text))
      throw new VouchError('request-malformed', 'a log key proves itself over a ceremony request only');
    const key = this.#lastKey();
    return key.signPrepared(signingMethods[key.key.algorithm].input(text));
  }

  #prepare(artefact: Artefact): Buffer {
    const input = signingInput(artefact, this.#rootKey().key);
    this.#prepared = { artefact, input };
    return input;
  }

  /** One signature for one preparation: what was not announced to the parent is not signed. */
  async #sign(): Promise<Buffer> {
    const prepared = this.#prepared;
    this.#prepared = undefined;
    if (!prepared) throw new VouchError('request-malformed', 'nothing is prepared to be signed');
    const root = this.#rootKey();
    const raw = await this.#crypto.signRaw(new HsmCryptoKey(root), prepared.input);
    if (prepared.artefact.kind === 'statement') return finishedStatement(prepared.input, raw, root.key);
    if (prepared.artefact.kind === 'transcript')
      return Buffer.from(detachedJws(prepared.input.toString('ascii'), raw), 'ascii');
    const { algorithm } = root.key;
    const der = assembleSigned(prepared.input, algorithm, signingMethods[algorithm].output(raw));
    await this.#readTwice(prepared.artefact.kind, der, prepared.input);
    return der;
  }

  /** Before it leaves the process, OpenSSL and a second library must read it and find its signature good (I3). */
  async #readTwice(kind: Artefact['kind'], der: Buffer, tbs: Buffer): Promise<void> {
    const { algorithm, publicKeySpki } = this.#rootKey().key;
    const publicKey = publicKeyOf(publicKeySpki);
    if (kind === 'root-crl') {
      const crl = new SecondCrlReader(der);
      const isGood = await crl.verify({ publicKey: await this.#imported(publicKeySpki) }, this.#crypto);
      const signature = Buffer.from(crl.signature);
      check(isGood && verifySignature(algorithm, publicKey, tbs, signature), 'CRL');
      return;
    }
    if (kind === 'root-csr') {
      const { signature } = parseCsr(der);
      const isOurs = Buffer.from(new SecondCsrReader(der).publicKey.rawData).equals(publicKeySpki);
      check(isOurs && verifySignature(algorithm, publicKey, tbs, signature), 'CSR');
      return;
    }
    const certificate = new SecondReader(der);
    const isGood = await certificate.verify(
      { publicKey: await this.#imported(publicKeySpki), signatureOnly: true },
      this.#crypto,
    );
    check(isGood && new X509Certificate(der).verify(publicKey), 'certificate');
  }

  #imported(spki: Buffer): Promise<webcrypto.CryptoKey> {
    const algorithm = webAlgorithms[this.#rootKey().key.algorithm];
    return this.#crypto.subtle.importKey('spki', spki, algorithm, true, ['verify']);
  }

  #opened(): HsmToken {
    assert(this.#token, 'the token was opened first');
    return this.#token;
  }

  #lastKey(): TokenKey {
    assert(this.#root, 'a key was made or chosen first');
    return this.#root;
  }

  #rootKey(): TokenKey {
    const root = this.#lastKey();
    return root;
  }
}

function finishedStatement(input: Buffer, raw: Buffer, root: HsmKey): Buffer {
  const jws = assembleStatement(input.toString('ascii'), raw);
  openStatement(jws, publicKeyOf(root.publicKeySpki));
  return Buffer.from(jws, 'ascii');
}

function publicKeyOf(spki: Buffer): KeyObject {
  return createPublicKey({ key: spki, format: 'der', type: 'spki' });
}

function check(isGood: boolean, what: string): void {
  if (__VOUCH_WITHOUT__ !== 'I3' && !isGood)
    throw new VouchError(
      'integrity-signature',
      `the root's signature of a ${what} does not verify; nothing was kept`,
    );
}
