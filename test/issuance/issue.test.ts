import { X509Certificate } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { VouchError } from '../../src/core/errors.ts';
import { encodeLeaf, hashLeafOf } from './rebuilt-leaf.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { verifyInclusion } from '../../src/log/merkle.ts';
import {
  freshKey,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';

let authority: SoftwareAuthority;
beforeEach(async () => {
  authority = await softwareAuthority();
});
afterEach(() => authority.close());

test('a certificate carries the names of its entry, verifies, and its leaf can be rebuilt from it and its proof', async () => {
  const { entry, tokenId } = await registered(authority);
  const issued = await authority.issuance.issue(requestFor(entry, tokenId));
  const parsed = parseCertificate(issued.der);
  expect(parsed.uris).toEqual([entry.spiffeId]);
  expect(parsed.dnsNames).toEqual(entry.dnsNames);
  expect(parsed.notAfterMs - authority.clock.now()).toBe(3_599_000);
  expect(authority.clock.now() - parsed.notBeforeMs).toBe(60_000);
  const node = new X509Certificate(issued.der);
  expect(node.verify(new X509Certificate(authority.issuerDer).publicKey)).toBe(true);
  const { proof } = issued;
  const leafHash = hashLeafOf(encodeLeaf(parsed, issued.timeMs, issued.context));
  const rootHash = proof.checkpoint.rootHash;
  expect(
    verifyInclusion({
      index: proof.leafIndex,
      treeSize: proof.checkpoint.treeSize,
      leafHash,
      path: proof.path,
      rootHash,
    }),
  ).toBe(true);
});

test('requests that wait together share one commit, and one that fails leaves the others alone', async () => {
  const good = await Promise.all(Array.from({ length: 20 }, (_, i) => registered(authority, `w${i}`)));
  const used = await registered(authority, 'used');
  await authority.issuance.issue(requestFor(used.entry, used.tokenId));
  const results = await Promise.allSettled([
    ...good.map(({ entry, tokenId }) => authority.issuance.issue(requestFor(entry, tokenId))),
    authority.issuance.issue(requestFor(used.entry, used.tokenId)),
  ]);
  expect(results.slice(0, 20).every((result) => result.status === 'fulfilled')).toBe(true);
  const refused = results[20];
  expect(refused?.status === 'rejected' && refused.reason instanceof VouchError && refused.reason.code).toBe(
    'policy-key-conflict',
  );
  expect(authority.store.treeSize()).toBe(authority.tree.size);
});

test('a retry with the same token and key gets the same certificate; another key gets 409', async () => {
  const { entry, tokenId } = await registered(authority);
  const key = freshKey();
  const first = await authority.issuance.issue(requestFor(entry, tokenId, key));
  const again = await authority.issuance.issue(requestFor(entry, tokenId, key));
  expect(again.der.equals(first.der)).toBe(true);
  await expect(authority.issuance.issue(requestFor(entry, tokenId))).rejects.toMatchObject({
    code: 'policy-key-conflict',
  });
});

test('a TBS that a crash left unsigned is signed again byte for byte for its holder', async () => {
  const { entry, tokenId } = await registered(authority);
  const key = freshKey();
  authority.signer.state = 'degraded';
  await expect(authority.issuance.issue(requestFor(entry, tokenId, key))).rejects.toMatchObject({
    code: 'unavailable-signer',
  });
  const stored = authority.store.certificates({ limit: 10 })[0];
  expect(stored?.signature).toBeUndefined();
  authority.signer.state = 'usable';
  const leaves = authority.store.leaves(0, authority.store.treeSize());
  authority.sequencer.adoptCheckpoint(authority.signer.resume(leaves.slice(-1)));
  const issued = await authority.issuance.issue(requestFor(entry, tokenId, key));
  expect(parseCertificate(issued.der).tbs.equals(stored?.tbs ?? Buffer.alloc(0))).toBe(true);
});

test('a token that once computes a wrong signature is asked again; nothing wrong leaves', async () => {
  const { entry, tokenId } = await registered(authority);
  let calls = 0;
  authority.signer.corrupt = (signature) => (calls++ === 0 ? flipped(signature) : signature);
  const issued = await authority.issuance.issue(requestFor(entry, tokenId));
  expect(new X509Certificate(issued.der).verify(new X509Certificate(authority.issuerDer).publicKey)).toBe(
    true,
  );
});

function flipped(signature: Buffer): Buffer {
  const copy = Buffer.from(signature);
  copy.writeUInt8(copy.readUInt8(copy.length - 1) ^ 1, copy.length - 1);
  return copy;
}
