import { rfc3339 } from '../core/clock.ts';
import type { Issuer } from '../issuance/issuer.ts';
import type { IssuedCertificate } from '../issuance/issue.ts';
import type { InclusionProof } from '../sequencer/submission.ts';
import type { CertificateRecord } from '../store/records.ts';
import type { CertificateAnswerJson, InclusionProofJson, PeersJson } from '../wire/enrollment.ts';
import type { Bundle } from '../authority/bundle.ts';
import type { Consistency } from './consistency.ts';

/** What an answer is made of besides the certificate. */
export interface AnswerParts extends CommonParts {
  issued: IssuedCertificate;
  peers: PeersJson;
}

/** What any answer is made of. */
export interface CommonParts {
  /** DER, issuer first, root last: what is above what this issuer issues. */
  authoritiesOf: (issuerKeyId: string) => readonly Buffer[];
  /** Every issuer of the trust domain: a peer's certificate may be another one's. */
  issuers: readonly Pick<Issuer, 'certificateDer' | 'notAfterMs'>[];
  bundle: Bundle;
  crlUrls: readonly { keyId: string; url: string }[];
  consistency: Consistency | undefined;
  nowMs: number;
}

/** The answer to an enrollment or renewal, as JSON carries it. */
export function certificateAnswer(parts: AnswerParts): CertificateAnswerJson {
  const { issued } = parts;
  const authorities = parts.authoritiesOf(issued.record.issuerKeyId);
  return {
    chain: [issued.der, ...authorities].map((der) => der.toString('base64')),
    proof: proofJson(issued, issued.proof),
    renewal: renewalWindow(issued.record, parts.nowMs),
    peers: parts.peers,
    ...commonAnswer(parts),
  };
}

/** What does not depend on which certificate it is. */
export function commonAnswer(parts: CommonParts) {
  const { consistency, nowMs } = parts;
  const issuers = parts.issuers.filter(({ notAfterMs }) => notAfterMs > nowMs);
  return {
    ...(issuers.length > 1
      ? { issuers: issuers.map(({ certificateDer }) => certificateDer.toString('base64')) }
      : {}),
    bundle: parts.bundle.json,
    ...(consistency
      ? { consistency: { treeSize: consistency.treeSize, path: hexPath(consistency.path) } }
      : {}),
    time: rfc3339(nowMs),
    crlUrls: [...parts.crlUrls],
  };
}

/** That a certificate is in the log, by this audit path. */
export function proofJson(
  { timeMs, context }: Pick<IssuedCertificate, 'timeMs' | 'context'>,
  { leafIndex, path, checkpoint }: InclusionProof,
): InclusionProofJson {
  return {
    index: leafIndex,
    treeSize: checkpoint.treeSize,
    time: timeMs,
    context: context.toString('hex'),
    path: hexPath(path),
    checkpoint: checkpoint.note,
  };
}

/** Half of the lifetime, counted from issuance, less and plus 10 % of the lifetime: a window for jitter. */
export function renewalWindow(
  { notAfterMs, issuedAtMs }: Pick<CertificateRecord, 'notAfterMs' | 'issuedAtMs'>,
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
