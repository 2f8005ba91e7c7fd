import { rfc3339 } from '../core/clock.ts';
import type { Issuer } from '../issuance/issuer.ts';
import type { IssuedCertificate } from '../issuance/issue.ts';
import type { CertificateAnswerJson, PeersJson } from '../wire/enrollment.ts';
import type { Bundle } from '../authority/bundle.ts';
import type { Consistency } from './consistency.ts';

/** What an answer is made of besides the certificate. */
export interface AnswerParts {
  issued: IssuedCertificate;
  /** DER, issuer first, root last: what is above what this issuer issues. */
  authoritiesOf: (issuerKeyId: string) => readonly Buffer[];
  /** Every issuer of the trust domain: a peer's certificate may be another one's. */
  issuers: readonly Pick<Issuer, 'certificateDer' | 'notAfterMs'>[];
  bundle: Bundle;
  crlUrls: readonly { keyId: string; url: string }[];
  consistency: Consistency | undefined;
  peers: PeersJson;
  nowMs: number;
}

/** The answer to an enrollment or renewal, as JSON carries it. */
export function certificateAnswer(parts: AnswerParts): CertificateAnswerJson {
  const { issued, consistency, nowMs } = parts;
  const issuers = parts.issuers.filter(({ notAfterMs }) => notAfterMs > nowMs);
  const authorities = parts.authoritiesOf(issued.record.issuerKeyId);
  const { leafIndex, path, checkpoint } = issued.proof;
  return {
    chain: [issued.der, ...authorities].map((der) => der.toString('base64')),
    ...(issuers.length > 1
      ? { issuers: issuers.map(({ certificateDer }) => certificateDer.toString('base64')) }
      : {}),
    bundle: parts.bundle.json,
    proof: {
      index: leafIndex,
      treeSize: checkpoint.treeSize,
      time: issued.timeMs,
      context: issued.context.toString('hex'),
      path: hexPath(path),
      checkpoint: checkpoint.note,
    },
    ...(consistency
      ? { consistency: { treeSize: consistency.treeSize, path: hexPath(consistency.path) } }
      : {}),
    renewal: renewalWindow(issued.record.notAfterMs, issued.record.issuedAtMs, parts.nowMs),
    peers: parts.peers,
    time: rfc3339(parts.nowMs),
    crlUrls: [...parts.crlUrls],
  };
}

/** Half of the lifetime, counted from issuance, less and plus 10 % of the lifetime: a window for jitter. */
function renewalWindow(
  notAfterMs: number,
  issuedAtMs: number,
  nowMs: number,
): { earliestSeconds: number; latestSeconds: number } {
  const lifetime = notAfterMs + 1000 - issuedAtMs;
  const fromNow = (share: number): number =>
    Math.max(0, Math.floor((issuedAtMs + lifetime * share - nowMs) / 1000));
  return { earliestSeconds: fromNow(0.4), latestSeconds: fromNow(0.6) };
}

function hexPath(path: readonly Buffer[]): string[] {
  return path.map((hash) => hash.toString('hex'));
}
