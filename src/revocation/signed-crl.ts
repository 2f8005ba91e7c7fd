import { VouchError } from '../core/errors.ts';
import { chunksSignedBy, type Issuer } from '../issuance/issuer.ts';
import { crlLeaf } from '../sequencer/record.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { Store } from '../store/port.ts';
import type { CrlRecord } from '../store/records.ts';
import { crlChunks, wholeCrl } from '../x509/crl-tbs.ts';
import type { CrlDraft } from './crl-drafts.ts';
import type { PublishedCrl } from './published-crls.ts';
import { crlSha256 } from './read-tbs.ts';

interface Parts {
  issuer: Issuer;
  sequencer: Sequencer;
  store: Pick<Store, 'putPieces'>;
  nowMs: number;
}

/** Its bytes go to the signer first; then number and leaf are durable; then the signer signs what the leaf names. */
export async function signCrl(draft: CrlDraft, parts: Parts): Promise<PublishedCrl> {
  const { issuer, sequencer, store, nowMs } = parts;
  const { url, follows: _follows, datesFixed, ...crl } = draft;
  const { tbs, base: _base, scheduled: _scheduled, ...head } = crl;
  const { scope, crlNumber } = head;
  const chunks = crlChunks(tbs);
  const tbsSha256 = await crlSha256(tbs);
  await Promise.all([store.putPieces(tbs.list.pieces), sequencer.upload(issuer.keyId, chunks)]);
  const result = await sequencer.sign({
    purpose: 'crl',
    verify: (signature) => chunksSignedBy(issuer, chunks, signature),
    mutation: {
      kind: 'crl',
      leaf: crlLeaf(nowMs, issuer.keyId, { scope, crlNumber, tbsSha256 }),
      crl,
      datesFixed,
    },
  });
  if (result.status === 'exists') throw new VouchError('internal', 'a CRL cannot exist already');
  const der = wholeCrl(tbs, issuer.algorithm, result.signature);
  return { ...head, url, der, tbsSha256, leafIndex: result.leafIndex };
}

/** A stored CRL as it was served; undefined where it has no signature that verifies. */
export async function storedCrl(
  { tbs, signature, base: _base, scheduled: _scheduled, ...head }: CrlRecord,
  issuer: Issuer,
  url: string,
): Promise<PublishedCrl | undefined> {
  if (!signature || !(await chunksSignedBy(issuer, crlChunks(tbs), signature))) return undefined;
  const der = wholeCrl(tbs, issuer.algorithm, signature);
  return { ...head, url, der, tbsSha256: await crlSha256(tbs) };
}
