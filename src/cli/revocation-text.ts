import { fields, table } from './output.ts';

/** What a revocation would take, as the admin socket says it. */
export interface Preview {
  certificates: { serial: string; spiffeId: string; notAfter: string }[];
  certificateCount: number;
  validUntil: string | null;
  identities: string[];
  identityCount: number;
  agents: string[];
  agentCount: number;
  joinTokenCount: number;
  suspendsEntries: string[];
  suspendsEntryCount: number;
  revokesTokenCount: number;
}

interface Published {
  crlNumber: number | null;
  crlUrl: string | null;
  published: boolean;
}

/** The answer to `vouch revoke`. */
export interface RevocationResult extends Published {
  revoked: { serial: string; revokedAt: string; reason: string; logIndex: number }[];
  revokedCount: number;
  alreadyRevoked: string[];
  alreadyRevokedCount: number;
  keysBlocked: string[];
}

/** The answer to `vouch release`. */
export interface ReleaseResult extends Published {
  released: { serial: string; releasedAt: string; logIndex: number }[];
  releasedCount: number;
}

/** Rows and lines that people are shown; the rest is counted. */
const shownMost = 20;

export function previewText(preview: Preview): string {
  const { certificates, certificateCount, validUntil } = preview;
  const rows = table(
    ['SERIAL', 'IDENTITY', 'NOT AFTER'],
    certificates.slice(0, shownMost).map((one) => [one.serial, one.spiffeId, one.notAfter]),
  );
  const named = (names: readonly string[], count: number): string =>
    count === 0 ? '0' : `${count}: ${names.slice(0, 3).join(' ')}${count > 3 ? ' …' : ''}`;
  const facts = fields([
    ['certificates', String(certificateCount)],
    ['valid until', validUntil ?? 'none is valid'],
    ['identities', named(preview.identities, preview.identityCount)],
    ['agents', named(preview.agents, preview.agentCount)],
    ['from join tokens', String(preview.joinTokenCount)],
    ['suspends entries', named(preview.suspendsEntries, preview.suspendsEntryCount)],
    ['revokes join tokens', String(preview.revokesTokenCount)],
  ]);
  return [rows, ...more(certificateCount), '', facts].join('\n');
}

export function revocationText(result: RevocationResult): string {
  const { revoked, revokedCount, alreadyRevoked, alreadyRevokedCount, keysBlocked } = result;
  const lines = [
    ...revoked
      .slice(0, shownMost)
      .map((one) => `revoked ${one.serial} (${one.reason}), leaf ${one.logIndex}`),
    ...more(revokedCount),
    ...alreadyRevoked.slice(0, shownMost).map((serial) => `${serial} was revoked before; its reason stays`),
    ...more(alreadyRevokedCount),
    ...keysBlocked.slice(0, shownMost).map((serial) => `the key of ${serial} is blocked from now on`),
    ...more(keysBlocked.length),
  ];
  if (lines.length === 0) lines.push('nothing was valid; what could issue it is stopped');
  return [...lines, publishedText(result)].join('\n');
}

export function releaseText(result: ReleaseResult): string {
  const { released, releasedCount } = result;
  const lines = released.slice(0, shownMost).map((one) => `released ${one.serial}, leaf ${one.logIndex}`);
  if (lines.length === 0) lines.push('nothing was on hold');
  return [...lines, ...more(releasedCount), publishedText(result)].join('\n');
}

function more(count: number): string[] {
  return count > shownMost ? [`… and ${count - shownMost} more`] : [];
}

function publishedText({ published, crlNumber, crlUrl }: Published): string {
  return published
    ? `on CRL ${crlNumber}: ${crlUrl}`
    : 'recorded, not published: the CRL follows as soon as the signer answers';
}
