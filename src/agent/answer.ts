import { VouchError } from '../core/errors.ts';
import { isReserved, parseSpiffeId, type SpiffeId, trustDomainOf } from '../core/spiffe-id.ts';
import { openStatement, type Statement } from '../log/statement.ts';
import type { BundleJson, CertificateAnswer } from '../wire/enrollment.ts';
import { type ParsedCertificate, parseCertificate } from '../x509/certificate.ts';
import { validateAuthority, validatePath } from '../x509/path.ts';
import { importPublicKey, keyIdOf } from '../x509/public-key.ts';
import { type ServerAddress, isPinned } from './connection.ts';
import { verifyLogged } from './log-proof.ts';
import type { Seen } from './state.ts';

/** How far our clock may be behind or ahead of the server's before what it issued looks wrong. */
export const toleratedSkewMs = 300_000;

/** An answer of which nothing is left to be believed. Its CRLs are fetched next. */
export interface VerifiedAnswer {
  answer: CertificateAnswer;
  spiffeId: SpiffeId;
  leaf: ParsedCertificate;
  /** CAs above the leaf, the root last. */
  authorities: readonly ParsedCertificate[];
  /** The trust domain's other issuers: peers may show certificates of theirs. */
  otherIssuers: readonly ParsedCertificate[];
  /** DER of the bundle's roots. */
  roots: readonly Buffer[];
  /** With what this answer showed; CRL numbers as before. */
  seen: Seen;
}

/**
 * Checks an answer against the pinned root, our key, and everything seen before (I9). Throws `denied-server` for a
 * certificate that is not the one asked for, `integrity-log` for a log that does not hold, `integrity-rewind` for
 * something older than seen.
 */
export function verifyAnswer(
  answer: CertificateAnswer,
  expected: {
    address: ServerAddress;
    root: Buffer;
    /** DER SubjectPublicKeyInfo of our key. */
    spki: Buffer;
    seen: Seen;
    /** In a renewal: the identity must stay. */
    spiffeId: SpiffeId | undefined;
    nowMs: number;
  },
): VerifiedAnswer {
  const { root, seen, nowMs } = expected;
  const [leaf, ...authorities] = validatePath({
    chain: answer.chain,
    roots: [root],
    nowMs,
    skewMs: toleratedSkewMs,
    trustDomain: expected.address.trustDomain,
  });
  const [issuer] = authorities;
  if (leaf === undefined || issuer === undefined)
    throw new VouchError('denied-server', 'the answer has no certificate');
  const spiffeId = assertOurs(leaf, expected);
  const { statement, roots } = verifyBundle(answer.bundle, { ...expected, root });
  const otherIssuers = verifyIssuers(answer, issuer, statement, { ...expected, roots: [root] });
  const head = verifyLogged({ answer, leaf, issuer, statement, seen });
  return {
    answer,
    spiffeId,
    leaf,
    authorities,
    otherIssuers,
    roots,
    seen: {
      statement: statement.sequence,
      bundle: answer.bundle.spiffe_sequence,
      treeSize: head.treeSize,
      head,
      crlNumbers: seen.crlNumbers,
    },
  };
}

/**
 * The issuers of the answer besides our own: each certified by the pinned root, and all of them among those of the
 * statement, where that names them. Throws `denied-server`.
 */
function verifyIssuers(
  answer: CertificateAnswer,
  own: ParsedCertificate,
  statement: Statement,
  { address, roots, nowMs }: { address: ServerAddress; roots: readonly Buffer[]; nowMs: number },
): ParsedCertificate[] {
  const options = { roots, nowMs, skewMs: toleratedSkewMs, trustDomain: address.trustDomain };
  const others = (answer.issuers ?? [])
    .filter((der) => !der.equals(own.der))
    .map((der) => validateAuthority(der, options));
  for (const issuer of [own, ...others]) assertStated(issuer, statement);
  return others;
}

/** Throws `denied-server` for an issuer that the root's statement does not name, where it names any. */
export function assertStated({ spki }: ParsedCertificate, { issuers }: Statement): void {
  if (issuers && !issuers.includes(keyIdOf(spki)))
    throw new VouchError(
      'denied-server',
      `the root's statement does not name the issuer ${keyIdOf(spki)}; nothing was changed`,
    );
}

/**
 * Checks a bundle by the pinned root: the root is in it, its statement is the root's, current, and neither is older
 * than seen. Returns the roots in DER. Throws `denied-server` or `integrity-rewind`.
 */
export function verifyBundle(
  bundle: BundleJson,
  expected: { address: ServerAddress; root: Buffer; seen: Pick<Seen, 'statement' | 'bundle'>; nowMs: number },
): { statement: Statement; roots: Buffer[] } {
  const { address, root, seen, nowMs } = expected;
  const roots = rootsOf(bundle);
  if (!roots.some((der) => der.equals(root)))
    throw new VouchError('denied-server', 'the trust bundle does not hold the root that the pin names');
  const statement = statementOf(bundle.vouch_statement, root, address.pin);
  if (statement.trustDomain !== address.trustDomain)
    throw new VouchError(
      'denied-server',
      `the root speaks for ${statement.trustDomain}, not for ${address.trustDomain}`,
    );
  if (statement.sequence < seen.statement) throw older('statement', statement.sequence, seen.statement);
  if (bundle.spiffe_sequence < seen.bundle) throw older('trust bundle', bundle.spiffe_sequence, seen.bundle);
  if (statement.notAfterMs + toleratedSkewMs < nowMs)
    throw new VouchError(
      'denied-server',
      `the root's statement ended at ${new Date(statement.notAfterMs).toISOString()}: a ceremony is due, or this machine's clock is ahead`,
    );
  return { statement, roots };
}

/** The statement of the root that the pin names. Nearly every answer brings the one that was verified last. */
function statementOf(jws: string, root: Buffer, pin: string): Statement {
  if (verified?.jws === jws && verified.pin === pin && verified.root.equals(root)) return verified.statement;
  if (!isPinned(root, pin))
    throw new VouchError('denied-server', 'the trust bundle does not hold the root that the pin names');
  const statement = openStatement(jws, importPublicKey(parseCertificate(root).spki).key);
  verified = { jws, root, pin, statement };
  return statement;
}

/** What `statementOf` verified last: that does not change. */
let verified: { jws: string; root: Buffer; pin: string; statement: Statement } | undefined;

/** An error that says which older thing was served. */
function older(what: string, got: number | bigint, seen: number | bigint): VouchError {
  return new VouchError(
    'integrity-rewind',
    `the ${what} is older than one seen before (${got}, seen ${seen}): the server was set back or somebody is in between; nothing was changed`,
  );
}

function assertOurs(
  leaf: ParsedCertificate,
  expected: { address: ServerAddress; spki: Buffer; spiffeId: SpiffeId | undefined },
): SpiffeId {
  const spiffeId = parseSpiffeId(leaf.uris[0] ?? '');
  const { trustDomain } = expected.address;
  if (trustDomainOf(spiffeId) !== trustDomain)
    throw new VouchError('denied-server', `the certificate is for ${spiffeId}, outside ${trustDomain}`);
  if (isReserved(spiffeId))
    throw new VouchError('denied-server', `the certificate is for the reserved name ${spiffeId}`);
  if (expected.spiffeId !== undefined && spiffeId !== expected.spiffeId)
    throw new VouchError(
      'denied-server',
      `the renewed certificate is for ${spiffeId}, not for ${expected.spiffeId}`,
    );
  if (!leaf.spki.equals(expected.spki))
    throw new VouchError('denied-server', 'the certificate is for another key than ours');
  return spiffeId;
}

/** Keys of other uses and without certificate are passed over; of several certificates the first counts (Bundle §5.1). */
export function rootsOf(bundle: BundleJson): Buffer[] {
  return bundle.keys.flatMap((key) => {
    const encoded = key.use === 'x509-svid' ? key.x5c?.[0] : undefined;
    if (encoded === undefined) return [];
    const der = Buffer.from(encoded, 'base64');
    if (!parseCertificate(der).basicConstraints?.isCa)
      throw new VouchError('denied-server', 'the trust bundle holds a certificate that is no CA');
    return [der];
  });
}
