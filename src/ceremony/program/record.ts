import { hash } from 'node:crypto';
import type { VerifiedResult } from '../result.ts';
import { rootCrlMutation } from './log.ts';
import { mayFollow } from '../../core/reasons.ts';
import { issuerOf } from '../../issuance/issuer.ts';
import { revocationTakenOver } from '../../revocation/import.ts';
import { recordLeaf } from '../../sequencer/record.ts';
import type { HsmKey } from '../../signer/hsm.ts';
import type { Mutation, Store, StoreReader } from '../../store/port.ts';
import type { AuthorityRecord } from '../../store/records.ts';
import type { ParsedRevoked } from '../../x509/crl-entries.ts';
import { parseCertificate } from '../../x509/certificate.ts';

/** Where a result is recorded: a store that nobody else uses, or a running server's sequencer before it. */
export interface Recorder {
  store: StoreReader;
  /** Resolves with the leaves' indices when all of them are durable; those given together in one transaction where it can be. */
  commit: (mutations: readonly Mutation[]) => Promise<number[]>;
  storeSigned: Store['storeSigned'];
  nowMs: number;
  /** Who takes it in. */
  operator: string;
}

/**
 * The result of a first ceremony becomes the state's: its transcript, which was the write-ahead record where the root
 * is, then a leaf for each thing announced there, then what came of it. `keys`: the issuers', in the result's order.
 */
export async function recordFirstResult(
  recorder: Recorder,
  result: VerifiedResult,
  keys: readonly HsmKey[],
): Promise<void> {
  await recordTranscript(recorder, result);
  const { root, issuers, transcript } = result;
  // An adopted root was not signed here: it was there, and so needs no leaf before.
  const event = transcript.root.certificateMade ? 'to-be-signed' : 'adopted';
  const algorithm = parseCertificate(root.certificateDer).algorithm;
  await authority(
    recorder,
    { ...root, kind: 'root', state: 'active', algorithm },
    { event, ckaId: root.ckaId },
  );
  await recordRootCrl(recorder, result);
  await recordRootCsr(recorder, result);
  for (const [index, { keyId, certificateDer }] of issuers.entries()) {
    const key = keys[index];
    if (!key) throw new Error('a key for each issuer of the result');
    const state = index === 0 ? 'active' : 'prepared';
    const record: AuthorityRecord = {
      kind: 'issuer',
      keyId,
      state,
      algorithm: key.algorithm,
      certificateDer,
    };
    await authority(recorder, record, { event: 'to-be-signed', ckaId: key.ckaId });
  }
  await recordStatement(recorder, result);
}

/** The result of a renewal becomes the state's; what an attempt that was cut short has recorded is not said again. */
export async function recordRenewal(recorder: Recorder, result: VerifiedResult): Promise<void> {
  await recordTranscript(recorder, result);
  await recordRootCrl(recorder, result);
  await recordRootCsr(recorder, result);
  await recordStatement(recorder, result);
}

async function recordTranscript(recorder: Recorder, result: VerifiedResult): Promise<void> {
  const { transcriptBytes, transcriptJws, root } = result;
  const [header = '', , signature = ''] = transcriptJws.split('.');
  const jws = `${header}.${transcriptBytes.toString('base64url')}.${signature}`;
  const body = { event: 'transcript', rootKeyId: root.keyId, operator: recorder.operator, jws };
  await recorder.commit([{ kind: 'operator', leaf: recordLeaf('authority', recorder.nowMs, body) }]);
}

async function authority(
  { commit, nowMs }: Recorder,
  record: AuthorityRecord,
  { event, ckaId }: { event: string; ckaId: string },
): Promise<void> {
  const { kind, keyId, state, algorithm, certificateDer } = record;
  const { tbs } = parseCertificate(certificateDer);
  const announced = { event, kind: 'authority', role: kind, keyId, tbsSha256: hash('sha256', tbs, 'hex') };
  const certificateSha256 = hash('sha256', certificateDer, 'hex');
  const created = { event: 'created', kind, keyId, ckaId, state, algorithm, certificateSha256 };
  await commit([
    { kind: 'operator', leaf: recordLeaf('authority', nowMs, announced) },
    {
      kind: 'authority',
      leaf: recordLeaf('authority', nowMs, created),
      authority: { keyId, kind, state, algorithm, certificateDer },
    },
  ]);
}

async function recordRootCrl(recorder: Recorder, result: VerifiedResult): Promise<void> {
  const { store, commit, nowMs, operator } = recorder;
  const { crl, root } = result;
  const issuerKeyId = root.keyId;
  const before = store.crls(issuerKeyId).find((row) => row.crlNumber === crl.crlNumber);
  const rootIssuer = issuerOf({
    certificateDer: root.certificateDer,
    algorithm: parseCertificate(root.certificateDer).algorithm,
  });
  const listed = [...crl.revoked()];
  const fresh = listed.filter(({ serial, reason }) =>
    mayFollow(store.revocation(issuerKeyId, serial)?.reason, reason),
  );
  await commit([
    // Before what the root says is public, its issuers issue no more.
    ...endedIssuers(recorder, listed),
    ...fresh.map(({ serial, reason, dateSeconds, invalidityDateSeconds }) => {
      const revocation = { serial, reason, revokedAtMs: dateSeconds * 1000, invalidityDateSeconds };
      return revocationTakenOver(store, rootIssuer, revocation, undefined, operator);
    }),
  ]);
  const datesFixed = listed
    .filter(({ serial }) => store.revocation(issuerKeyId, serial)?.crlDateSeconds === undefined)
    .map(({ serial, dateSeconds }) => ({ serial, crlDateSeconds: dateSeconds }));
  const { crlNumber, tbs, signature } = crl;
  const record = { issuerKeyId, scope: 'full' as const, crlNumber, tbs };
  const leafIndex =
    before?.leafIndex ?? (await commit([rootCrlMutation(record, nowMs, datesFixed)]))[0] ?? -1;
  await recorder.storeSigned({
    signatures: [{ kind: 'crl', leafIndex, signature }],
    checkpointNote: undefined,
  });
}

/** Issuers on a CRL of the root that are not recorded as such: tainted, or retired where they never began to issue. */
function endedIssuers({ store, nowMs, operator }: Recorder, listed: readonly ParsedRevoked[]): Mutation[] {
  const reasons = new Map(listed.map(({ serial, reason }) => [serial, reason]));
  return store.authorities().flatMap((authority): Mutation[] => {
    const { kind, keyId, state, certificateDer } = authority;
    const { serial } = parseCertificate(certificateDer);
    const reason = reasons.get(serial);
    if (kind === 'root' || reason === undefined || state === 'tainted' || state === 'retired') return [];
    const now = state === 'prepared' ? 'retired' : 'tainted';
    const leaf = recordLeaf('authority', nowMs, {
      event: 'state',
      keyId,
      state: now,
      serial,
      reason,
      operator,
    });
    return [{ kind: 'authority', leaf, authority: { ...authority, state: now } }];
  });
}

/** What a CA above makes of it comes in by `takeChain`, if ever. */
async function recordRootCsr(recorder: Recorder, { csrSha256, root }: VerifiedResult): Promise<void> {
  if (csrSha256 === undefined) return;
  const body = { event: 'to-be-signed', kind: 'root-csr', keyId: root.keyId, tbsSha256: csrSha256 };
  await recorder.commit([{ kind: 'operator', leaf: recordLeaf('authority', recorder.nowMs, body) }]);
}

async function recordStatement({ commit, nowMs }: Recorder, { statement }: VerifiedResult): Promise<void> {
  const { jws, sequence } = statement;
  const tbsSha256 = hash('sha256', jws.slice(0, jws.lastIndexOf('.')), 'hex');
  const announced = { event: 'to-be-signed', kind: 'statement', sequence, tbsSha256 };
  const stated = { event: 'statement', sequence, sha256: hash('sha256', jws, 'hex') };
  await commit([
    { kind: 'operator', leaf: recordLeaf('authority', nowMs, announced) },
    { kind: 'statement', leaf: recordLeaf('authority', nowMs, stated), sequence, statement: jws },
  ]);
}
