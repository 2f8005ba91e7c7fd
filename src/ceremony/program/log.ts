import { hash } from 'node:crypto';
import { systemClock } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import { crlLeaf, recordLeaf } from '../../sequencer/record.ts';
import type { CeremonyRecord, CeremonyResult } from '../../signer/ceremony.ts';
import { commitAll } from '../../store/commit.ts';
import type { Mutation, Store } from '../../store/port.ts';
import type { StateIdentity } from '../../store/records.ts';
import { parseCrl, parseTbsCrl } from '../../x509/crl.ts';
import { unsplitCrl } from '../../x509/crl-tbs.ts';

/** The log's first leaf: what the state is, which no row may say otherwise later. */
export async function recordIdentity(store: Store, identity: StateIdentity): Promise<void> {
  const leaf = recordLeaf('authority', identity.createdAtMs, { event: 'initialized', ...identity });
  await commitAll(store, [{ kind: 'operator', leaf }]);
}

/** A TBS that the root is asked to sign, durable before it is signed (I1). */
export async function logAhead(store: Store, record: CeremonyRecord): Promise<void> {
  const nowMs = systemClock.now();
  if (record.kind === 'crl') {
    await commitAll(store, [rootCrlMutation(record, nowMs, [])]);
    return;
  }
  const what =
    record.kind === 'authority' ? { role: record.role, keyId: record.keyId } : { sequence: record.sequence };
  const body = {
    event: 'to-be-signed',
    kind: record.kind,
    ...what,
    tbsSha256: hash('sha256', record.tbs, 'hex'),
  };
  await commitAll(store, [{ kind: 'operator', leaf: recordLeaf('authority', nowMs, body) }]);
}

/** A root's CRL with its leaf; `datesFixed`: revocations that it is the first to carry. */
export function rootCrlMutation(
  record: Pick<Extract<CeremonyRecord, { kind: 'crl' }>, 'issuerKeyId' | 'scope' | 'crlNumber' | 'tbs'>,
  nowMs: number,
  datesFixed: Extract<Mutation, { kind: 'crl' }>['datesFixed'],
): Mutation {
  const { issuerKeyId, scope, crlNumber, tbs } = record;
  const { thisUpdateSeconds, nextUpdateSeconds } = parseTbsCrl(tbs);
  const leaf = crlLeaf(nowMs, issuerKeyId, { scope, crlNumber, tbsSha256: hash('sha256', tbs, 'buffer') });
  const times = { thisUpdateSeconds, nextUpdateSeconds, scheduled: true, base: false, coversTreeSize: 0 };
  return {
    kind: 'crl',
    leaf,
    crl: { issuerKeyId, scope, crlNumber, ...times, tbs: unsplitCrl(tbs) },
    datesFixed,
  };
}

/** What the root signed becomes the state's, each with a leaf of its own. */
export async function recordCeremony(store: Store, ceremony: CeremonyResult): Promise<void> {
  const nowMs = systemClock.now();
  const { root, issuer, standby } = ceremony;
  const made = [
    { kind: 'root', key: root } as const,
    // In the order in which they issue.
    ...[issuer, ...(standby ? [standby.issuer] : [])].map((key) => ({ kind: 'issuer', key }) as const),
  ];
  for (const { kind, key } of made) {
    const { keyId, ckaId, algorithm, certificateDer } = key;
    const state = 'active';
    const certificateSha256 = hash('sha256', certificateDer, 'hex');
    const body = { event: 'created', kind, keyId, ckaId, state, algorithm, certificateSha256 };
    const leaf = recordLeaf('authority', nowMs, body);
    const authority = { keyId, kind, state, algorithm, certificateDer } as const;
    await commitAll(store, [{ kind: 'authority', leaf, authority }]);
  }
  const sequence = 1;
  const leaf = recordLeaf('authority', nowMs, {
    event: 'statement',
    sequence,
    sha256: hash('sha256', ceremony.statement, 'hex'),
  });
  await commitAll(store, [{ kind: 'statement', leaf, sequence, statement: ceremony.statement }]);
  const crl = store.crls(ceremony.root.keyId)[0];
  if (!crl) throw new VouchError('integrity-state', "the root's CRL was not recorded");
  const { signature } = parseCrl(ceremony.rootCrl.der);
  await store.storeSigned({
    signatures: [{ kind: 'crl', leafIndex: crl.leafIndex, signature }],
    checkpointNote: undefined,
  });
}
