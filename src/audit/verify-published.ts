import { type Clock, rfc3339 } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { fullCrlUrl } from '../core/publication.ts';
import { type CaCertificate, caOf } from '../issuance/issuer.ts';
import { emptyRoot } from '../log/merkle.ts';
import { noteMaxBytes, openCheckpoint } from '../log/note.ts';
import { openStatement, type Statement } from '../log/statement.ts';
import { type BundleJson, bundleSchema } from '../wire/enrollment.ts';
import { parseCrl } from '../x509/crl.ts';
import { importPublicKey } from '../x509/public-key.ts';
import { verifySignature } from '../x509/algorithm.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { PublishedFiles } from './published-files.ts';
import { publishedRoot } from './published-tree.ts';
import { type LogVerification, Problems } from './verification.ts';

const bundleMaxBytes = 1024 * 1024;
/** The root's CRL names authorities, which are few. */
const rootCrlMaxBytes = 1024 * 1024;

/**
 * Verifies a published log from its URLs alone: root by its pin, the root's statement and CRL, the checkpoint by the
 * statement's log key, and the root hash over every hash tile. Leaves are not public, so certificates and revocations
 * count as 0 here, and the issuers, with their CRLs, are not known; `--state` reads them. Throws `denied-server` for
 * another authority than the pinned one, `unavailable-server` where nobody answers.
 */
export async function verifyPublished(parts: {
  url: string;
  rootPin: string;
  clock: Clock;
  progress: (done: number, of: number) => void;
}): Promise<LogVerification> {
  const { url, clock, progress } = parts;
  const problems = new Problems();
  const files = new PublishedFiles(url, problems);
  const result = { treeSize: 0, rootHash: emptyRoot.toString('hex'), certificates: 0, revocations: 0 };
  const trusted = await trustedRoot(files, parts.rootPin, problems);
  if (!trusted) return { ...result, problems: problems.list() };
  const { root, jws } = trusted;
  const statement = problems.attempt("the root's statement", () => openStatement(jws, root.publicKey));
  if (statement && statement.notAfterMs < clock.now())
    problems.add(`the root's statement expired at ${rfc3339(statement.notAfterMs)}`);
  await checkRootCrl(files, root, clock, problems);
  const checkpoint = statement && (await signedHead(files, statement, problems));
  if (!checkpoint) return { ...result, problems: problems.list() };
  const { treeSize, rootHash } = checkpoint;
  const computed = await publishedRoot({ files, treeSize, problems, progress });
  if (computed && !computed.equals(rootHash))
    problems.add('the root over the tiles is not the one that the log key signed');
  return { ...result, treeSize, rootHash: (computed ?? rootHash).toString('hex'), problems: problems.list() };
}

/** The bundle's root with this pin, and the statement beside it. */
async function trustedRoot(
  files: PublishedFiles,
  rootPin: string,
  problems: Problems,
): Promise<{ root: CaCertificate; jws: string } | undefined> {
  const path = '/bundle.json';
  const bytes = await files.get(path, bundleMaxBytes);
  const bundle = bytes && bundleOf(bytes);
  if (!bytes) return undefined;
  if (!bundle) {
    problems.add(`${path}: it is no SPIFFE bundle with a statement`);
    return undefined;
  }
  const certificates = bundle.keys.flatMap((key) => key.x5c?.[0] ?? []);
  for (const der of certificates.map((text) => Buffer.from(text, 'base64')))
    if (problems.attempt(path, () => pinOf(der)) === rootPin)
      return { root: caOf(der), jws: bundle.vouch_statement };
  throw new VouchError(
    'denied-server',
    'no root in the bundle has this pin: another authority answers there',
  );
}

function bundleOf(bytes: Buffer): BundleJson | undefined {
  try {
    return bundleSchema.parse(JSON.parse(bytes.toString('utf8')));
  } catch {
    return undefined;
  }
}

function pinOf(certificateDer: Buffer): string {
  return `sha256:${importPublicKey(parseCertificate(certificateDer).spki).sha256}`;
}

/** The root's CRL says which issuers to distrust; one that is missing or old says nothing. */
async function checkRootCrl(
  files: PublishedFiles,
  root: CaCertificate,
  clock: Clock,
  problems: Problems,
): Promise<void> {
  const path = fullCrlUrl('', root.keyId);
  const der = await files.get(path, rootCrlMaxBytes);
  const crl = der && problems.attempt(path, () => parseCrl(der));
  if (!crl) return;
  const isSigned = verifySignature(crl.algorithm, root.publicKey, crl.tbs, crl.signature);
  if (!crl.issuerName.equals(root.issuerName) || !isSigned)
    problems.add(`${path}: its signature is not the root's`);
  if (crl.nextUpdateSeconds * 1000 < clock.now())
    problems.add(`${path}: it is past its nextUpdate, ${rfc3339(crl.nextUpdateSeconds * 1000)}`);
}

async function signedHead(files: PublishedFiles, statement: Statement, problems: Problems) {
  const path = '/log/checkpoint';
  const note = await files.get(path, noteMaxBytes);
  return note && problems.attempt(path, () => openCheckpoint(note.toString('utf8'), statement.logKeys));
}
