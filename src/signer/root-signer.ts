import { createPublicKey, type KeyObject } from 'node:crypto';
import { VouchError } from '../core/errors.ts';
import { verifyDetachedJws } from '../log/root-jws.ts';
import { openStatement } from '../log/statement.ts';
import { type Artefact, signingInput } from '../ceremony/artefacts.ts';
import { transcriptTyp } from '../ceremony/transcript.ts';
import { verifySignature } from '../x509/algorithm.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { parseCrl } from '../x509/crl.ts';
import { parseCsr } from '../x509/csr.ts';
import type { CeremonyClient } from './ceremony-client.ts';
import type { HsmKey } from './hsm.ts';

/** Makes what is to be signed durable; the root signs when it resolves. */
export type Announce = (tbs: Buffer) => Promise<void>;

/**
 * Prepare, announce, sign, verify: the only way to a signature of the root, which the child has as its key. Resolves to
 * DER of a certificate or CRL, or ASCII of a compact JWS. Rejects with `integrity-signature` where the child signed
 * something else than was announced.
 */
export async function signByRoot(
  client: CeremonyClient,
  rootKey: HsmKey,
  artefact: Artefact,
  announce: Announce,
): Promise<Buffer> {
  const tbs = await client.ask('prepare', artefact);
  // Built here, too: the child is the one that talks to the token.
  if (!tbs.equals(signingInput(artefact, rootKey)))
    throw new VouchError(
      'integrity-signature',
      `what was prepared is not what was asked for (${artefact.kind})`,
    );
  await announce(tbs);
  const signed = await client.ask('sign', null);
  verifySigned(artefact, tbs, signed, rootKey);
  return signed;
}

/** I3, again in this process. */
function verifySigned(artefact: Artefact, tbs: Buffer, signed: Buffer, rootKey: HsmKey): void {
  const publicKey = publicKeyOf(rootKey);
  if (artefact.kind === 'transcript')
    return verifyDetachedJws(
      signed.toString('ascii'),
      artefact.payload,
      { spki: rootKey.publicKeySpki, typ: transcriptTyp, algorithm: rootKey.algorithm },
      'the transcript',
    );
  if (artefact.kind === 'statement') {
    const jws = signed.toString('ascii');
    if (!jws.startsWith(`${tbs.toString('ascii')}.`))
      throw new VouchError('integrity-signature', 'the statement is not the one that was logged');
    openStatement(jws, publicKey);
    return;
  }
  const read = readOf(artefact.kind, signed);
  const isGood = read.tbs.equals(tbs) && verifySignature(rootKey.algorithm, publicKey, tbs, read.signature);
  if (__VOUCH_WITHOUT__ !== 'I3' && !isGood)
    throw new VouchError('integrity-signature', `the root's signature (${artefact.kind}) does not verify`);
}

function readOf(kind: Artefact['kind'], der: Buffer): { tbs: Buffer; signature: Buffer } {
  if (kind === 'root-crl') return parseCrl(der);
  if (kind !== 'root-csr') return parseCertificate(der);
  const { signed: tbs, signature } = parseCsr(der);
  return { tbs, signature };
}

function publicKeyOf(key: HsmKey): KeyObject {
  return createPublicKey({ key: key.publicKeySpki, format: 'der', type: 'spki' });
}
