import { hash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { encodeIssuerRevocations } from '../issuer-revocations.ts';
import type { Config } from '../../config/config.ts';
import { rfc3339, systemClock } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import { issuerReasons } from '../../core/reasons.ts';
import { issuedBy } from '../../revocation/issued-by.ts';
import { readingState } from '../../state.ts';
import type { StoreReader } from '../../store/port.ts';
import type { IssuerRevocationsJson } from '../../wire/ceremony.ts';

/** What an operator asks for. */
interface Asked {
  keyIds: readonly string[];
  reason: string | undefined;
  /** RFC 3339. */
  invalidityDate: string | undefined;
}

/** What was written for the root. */
export interface RequestedRevocations {
  file: string;
  sha256: string;
  issuers: { keyId: string; reason: string; unexpired: number }[];
}

/**
 * Writes a new file that asks the root to put issuers of this state on its CRL, with what ends with them. Beside a
 * running server or without one; nothing changes. Throws `usage-invalid`, `request-not-found`, `config-state`.
 */
export async function requestIssuerRevocations(
  file: string,
  { state, trustDomain }: Config,
  asked: Asked,
): Promise<RequestedRevocations> {
  const createdAtMs = systemClock.now();
  const common = { reason: reasonOf(asked.reason), ...invalidityOf(asked.invalidityDate, createdAtMs) };
  const issuers = await readingState(state, async (store) => {
    const found = [];
    for (const keyId of new Set(asked.keyIds)) {
      const { certificateDer } = issuerIn(store, keyId);
      const { unexpired } = await issuedBy(store, keyId, createdAtMs);
      found.push({ keyId, certificate: certificateDer.toString('base64'), ...common, unexpired });
    }
    return found;
  });
  const text = encodeIssuerRevocations({
    ...({ version: 1, kind: 'vouch-issuer-revocations', trustDomain } as const),
    createdAt: rfc3339(createdAtMs),
    issuers: issuers.map(({ keyId: _keyId, ...issuer }) => issuer),
  });
  try {
    writeFileSync(file, text, { flag: 'wx' });
  } catch (cause) {
    throw new VouchError('config-state', `cannot write ${file}: name a new file in a folder that is there`, {
      cause,
    });
  }
  const shown = issuers.map(({ keyId, reason, unexpired }) => ({ keyId, reason, unexpired }));
  return { file, sha256: hash('sha256', text, 'hex'), issuers: shown };
}

function issuerIn(store: StoreReader, keyId: string) {
  const found = store.authorities().find((record) => record.kind === 'issuer' && record.keyId === keyId);
  if (found) return found;
  throw new VouchError('request-not-found', `no issuer ${keyId} here; \`vouch issuer list\` shows them`);
}

function reasonOf(text: string | undefined): IssuerRevocationsJson['issuers'][number]['reason'] {
  const found = issuerReasons.find((reason) => reason === (text ?? issuerReasons[0]));
  if (found) return found;
  throw new VouchError('usage-invalid', `--reason must be one of ${issuerReasons.join(', ')}`);
}

/** RFC 5280 §5.3.2: a date that has been. */
function invalidityOf(text: string | undefined, nowMs: number): { invalidityDate?: string } {
  if (text === undefined) return {};
  const timeMs = Date.parse(text);
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(text) || !(timeMs <= nowMs))
    throw new VouchError(
      'usage-invalid',
      '--invalidity-date must be a time that has been, as 2030-01-31T08:00:00Z',
    );
  return { invalidityDate: rfc3339(timeMs) };
}
