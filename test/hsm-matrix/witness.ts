import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import Database from 'better-sqlite3';
import { decodeCrlBody, decodeLeaf } from '../../src/log/leaf.ts';
import { Frontier, hashLeaf } from '../../src/log/merkle.ts';
import { proofText } from '../../src/signer/pkcs11/signing.ts';

/** A line of the simulator's log. */
interface Signed {
  ckaId: string;
  mechanism: string;
  /** What C_Sign was given, hex. */
  data: string;
  rv: string;
}

/** What the token's own log of signatures says beside ours. */
export interface Testimony {
  certificates: number;
  crls: number;
  checkpoints: number;
  proofs: number;
  /** Signatures of what no leaf covers: I1 is broken. */
  orphans: string[];
}

/**
 * Holds every signature that the token made, as the simulator wrote it down before giving it out, against the log: a
 * certificate's or CRL's digest is that of a leaf, a checkpoint is the root of the tree at that size (I1).
 */
export function testimony(logFile: string, databaseFile: string, publicKeys: readonly Buffer[]): Testimony {
  const known = readLog(databaseFile);
  const proofs = new Set(publicKeys.flatMap(proofsOf));
  const result: Testimony = { certificates: 0, crls: 0, checkpoints: 0, proofs: 0, orphans: [] };
  for (const { ckaId, data, rv, mechanism } of signaturesIn(logFile)) {
    if (rv !== 'CKR_OK') continue;
    if (proofs.has(data)) result.proofs += 1;
    else if (known.certificates.has(data)) result.certificates += 1;
    else if (known.crls.has(data)) result.crls += 1;
    else if (isCheckpoint(Buffer.from(data, 'hex'), known.roots)) result.checkpoints += 1;
    else result.orphans.push(`${mechanism} by ${ckaId} of ${data.slice(0, 80)}`);
  }
  return result;
}

/** A key's start-up proof as the token saw it: the text by Ed25519, its digest by the others. */
function proofsOf(publicKey: Buffer): string[] {
  const text = proofText(publicKey);
  return [text.toString('hex'), hash('sha256', text)];
}

function signaturesIn(file: string): Signed[] {
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Signed);
}

/** Lines of a checkpoint's body: origin, size, root hash in base64 (C2SP tlog-checkpoint). */
function isCheckpoint(body: Buffer, roots: readonly string[]): boolean {
  const [, size = '', root] = body.toString('utf8').split('\n');
  return /^\d+$/.test(size) && root !== undefined && roots[Number(size)] === root;
}

function readLog(databaseFile: string) {
  const database = new Database(databaseFile, { readonly: true });
  try {
    const frontier = Frontier.empty();
    const roots = [frontier.root().toString('base64')];
    const certificates = new Set<string>();
    const crls = new Set<string>();
    const rows = database.prepare<[], Buffer>('SELECT bytes FROM leaves ORDER BY leaf_index').pluck();
    for (const bytes of rows.iterate()) {
      frontier.append(hashLeaf(bytes));
      roots.push(frontier.root().toString('base64'));
      const leaf = decodeLeaf(bytes);
      if (leaf.type === 'certificate') certificates.add(hash('sha256', leaf.body));
      if (leaf.type === 'crl') crls.add(decodeCrlBody(leaf.body).tbsSha256.toString('hex'));
    }
    return { certificates, crls, roots };
  } finally {
    database.close();
  }
}
