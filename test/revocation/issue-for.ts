import { randomBytes } from 'node:crypto';
import type { RegistrationEntry } from '../../src/core/registration.ts';
import { newSerial } from '../../src/core/serial.ts';
import { parseSpiffeId, type SpiffeId } from '../../src/core/spiffe-id.ts';
import { recordLeaf } from '../../src/sequencer/record.ts';
import type { CertificateRecord } from '../../src/store/records.ts';
import type { SoftwareAuthority } from '../support/software-authority.ts';

interface Origin {
  spiffeId?: SpiffeId | undefined;
  entry?: RegistrationEntry;
  agent?: SpiffeId | undefined;
  node?: string;
  spkiSha256?: string;
}

/** A certificate of another origin than a join token as the store knows it; nobody signed it. */
export async function issueFor(
  { sequencer, clock, issuer }: SoftwareAuthority,
  { entry, ...origin }: Origin,
): Promise<CertificateRecord> {
  const serial = newSerial(0x2a, randomBytes);
  const nowMs = clock.now();
  const certificate = {
    ...{ issuerKeyId: issuer.keyId, serial, lineage: serial, predecessor: undefined, tokenId: undefined },
    ...{ entryId: entry?.entryId, notBeforeMs: nowMs, notAfterMs: nowMs + 3600_000, issuedAtMs: nowMs },
    ...{ tbs: Buffer.from(serial), decision: '{}', salt: randomBytes(16) },
    spkiSha256: randomBytes(32).toString('hex'),
    ...origin,
    spiffeId: origin.spiffeId ?? parseSpiffeId('spiffe://test.example/one-of-many'),
  };
  const leafIndex = await sequencer.record({
    ...{ kind: 'certificate', leaf: recordLeaf('operator', nowMs, { serial }), certificate },
    ...{ entryVersion: entry?.version, tokenUse: undefined, askedBy: undefined },
  });
  return { ...certificate, leafIndex, signature: undefined };
}
