import { expect, test } from 'vitest';
import { parseSpiffeId } from '../../src/core/spiffe-id.ts';
import { certificateView, explanation } from '../../src/operator/views.ts';
import { recordLeaf } from '../../src/sequencer/record.ts';
import { issueFor } from '../revocation/issue-for.ts';
import { registered, softwareAuthority } from '../support/software-authority.ts';

test('a certificate says through which agent and for which node it was issued, also when its entry is deleted', async () => {
  const authority = await softwareAuthority();
  const { entry } = await registered(authority);
  const agent = parseSpiffeId('spiffe://test.example/host/db-7');
  const { issuerKeyId, serial } = await issueFor(authority, { entry, agent, node: 'db-7' });
  const standing = () => {
    const found = authority.store.certificate(issuerKeyId, serial);
    if (!found) throw new Error('not stored');
    return found;
  };
  const nowMs = authority.clock.now();
  const origin = { agent, node: 'db-7', entryId: entry.entryId };
  expect(certificateView(standing(), nowMs)).toMatchObject({ ...origin, state: 'valid' });
  const deletion = { kind: 'entry-deleted' as const, entryId: entry.entryId, parentId: undefined };
  const leaf = recordLeaf('entry', nowMs, { event: 'deleted', entryId: entry.entryId });
  await authority.sequencer.record({ ...deletion, atMs: nowMs, leaf });
  expect(explanation(standing(), authority.store, nowMs)).toMatchObject({
    ...{ certificate: { ...origin, state: 'suspended' }, entry: null },
  });
  await authority.close();
});
