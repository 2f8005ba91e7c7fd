import type { Issuers } from '../issuance/issuers.ts';
import { recordLeaf } from '../sequencer/record.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { JwtSigner } from '../signer/port.ts';
import type { StoreReader } from '../store/port.ts';

interface Parts {
  store: Pick<StoreReader, 'jwtKeys'>;
  signer: Pick<JwtSigner, 'jwtKey'>;
  issuance: { issuers: Pick<Issuers, 'all'> };
  sequencer: Pick<Sequencer, 'record'>;
  clockGuard: { revocationTimeMs(): number };
}

/**
 * Records, each with a leaf, the keys of JWT-SVIDs that the signers tell of and that do not count yet: verifiers have to
 * know them also while their token is away. True where there was one: the bundle is another.
 */
export async function recordJwtKeys(parts: Parts): Promise<boolean> {
  const { store, signer, issuance, sequencer, clockGuard } = parts;
  // Several issuers may have their keys in one token, which tells of one key: that is the first one's.
  const seen = new Set<string>();
  let recorded = false;
  for (const { keyId: issuerKeyId } of issuance.issuers.all) {
    const key = signer.jwtKey(issuerKeyId);
    if (!key || seen.has(key.keyId)) continue;
    seen.add(key.keyId);
    if (store.jwtKeys().findLast((one) => one.issuerKeyId === issuerKeyId)?.keyId === key.keyId) continue;
    const publicKey = key.publicKeySpki.toString('base64');
    const body = { event: 'jwt-key', issuerKeyId, keyId: key.keyId, publicKey };
    const leaf = recordLeaf('authority', clockGuard.revocationTimeMs(), body);
    await sequencer.record({ kind: 'jwt-key', leaf, jwtKey: { issuerKeyId, ...key } });
    recorded = true;
  }
  return recorded;
}
