import { hash } from 'node:crypto';
import Database from 'better-sqlite3';
import { decodeCrlBody, decodeLeaf, decodeRevocationBody, type Leaf } from '../../src/log/leaf.ts';
import { Frontier, hashLeaf } from '../../src/log/merkle.ts';
import { parseTbsCertificate } from '../../src/x509/certificate.ts';

/** The state on disk as the checker needs it, read with SQL of its own and in one snapshot. */
export interface StateReading {
  treeSize: number;
  /** TBS hash → index of its leaf. */
  certificateLeaves: ReadonlyMap<string, number>;
  /** Rows by serial. */
  certificates: ReadonlyMap<string, { leafIndex: number; tbsSha256: string }>;
  /** Serial → leaf index of its row. */
  revocations: ReadonlyMap<string, number>;
  /** Leaf index → serial that it revokes. */
  revocationLeaves: ReadonlyMap<number, string>;
  /** Scope and number → hex SHA-256 of the TBSCertList. */
  crlLeaves: ReadonlyMap<string, string>;
  /** Numbers that do not rise in the log or fall behind it in the store. */
  crlProblems: readonly string[];
  tokenIds: ReadonlySet<string>;
  repeatedSerials: readonly string[];
  overusedTokens: readonly string[];
  leafSha256(index: number): string | undefined;
  /** Of a size that was asked for. */
  rootOf(treeSize: number): Buffer | undefined;
}

/** Reads the whole database; `sizes`: tree sizes whose roots are wanted. */
export function readState(databaseFile: string, sizes: ReadonlySet<number>): StateReading {
  const database = new Database(databaseFile, { readonly: true });
  try {
    database.exec('BEGIN');
    const log = new LogReading(sizes);
    const leaves = database.prepare<[], { leaf_index: number; bytes: Buffer }>(
      'SELECT leaf_index, bytes FROM leaves ORDER BY leaf_index',
    );
    for (const { leaf_index, bytes } of leaves.iterate()) log.take(leaf_index, bytes);
    return { ...log.result(), ...readRows(database, log) };
  } finally {
    database.close();
  }
}

/** Of these acked certificates, the serials that the store does not have; a look-up each. */
export function missingCertificates(
  databaseFile: string,
  certificates: readonly { serial: string; tbsSha256: string }[],
): string[] {
  const database = new Database(databaseFile, { readonly: true });
  try {
    const row = database.prepare<[string], { tbs: Buffer }>('SELECT tbs FROM certificates WHERE serial = ?');
    return certificates
      .filter(({ serial, tbsSha256 }) => {
        const found = row.get(serial);
        return found === undefined || hash('sha256', found.tbs) !== tbsSha256;
      })
      .map(({ serial }) => serial);
  } finally {
    database.close();
  }
}

function readRows(database: Database.Database, log: LogReading) {
  const certificates = new Map<string, { leafIndex: number; tbsSha256: string }>();
  const repeated = [...log.repeatedSerials];
  const rows = database.prepare<[], { leaf_index: number; serial: string; tbs: Buffer }>(
    'SELECT leaf_index, serial, tbs FROM certificates',
  );
  for (const row of rows.iterate()) {
    if (certificates.has(row.serial)) repeated.push(row.serial);
    certificates.set(row.serial, { leafIndex: row.leaf_index, tbsSha256: hash('sha256', row.tbs) });
  }
  const revocations = database
    .prepare<[], { serial: string; leaf_index: number }>('SELECT serial, leaf_index FROM revocations')
    .all();
  const text = (sql: string): string[] => database.prepare<[], string>(sql).pluck().all();
  return {
    certificates,
    repeatedSerials: repeated,
    revocations: new Map(revocations.map((row) => [row.serial, row.leaf_index])),
    tokenIds: new Set(text('SELECT token_id FROM join_tokens')),
    // Counted once for all: a look at the certificates for each token takes minutes when there are many.
    overusedTokens: text(`SELECT token_id FROM join_tokens WHERE uses_allowed = 1 AND token_number IN
      (SELECT token_number FROM certificates WHERE predecessor IS NULL GROUP BY token_number HAVING count(*) > 1)`),
    crlProblems: [...log.crlProblems, ...forgottenNumbers(database, log.lastCrlNumbers)],
  };
}

/** The store may not know a lower last number of a scope than the log has: it would be given again. */
function forgottenNumbers(database: Database.Database, last: ReadonlyMap<string, bigint>): string[] {
  const known = database
    .prepare<[string], bigint>("SELECT last_number FROM crl_scopes WHERE issuer_key_id || ' ' || scope = ?")
    .pluck()
    .safeIntegers();
  return [...last].flatMap(([name, number]) =>
    (known.get(name) ?? -1n) < number ? [`the store has forgotten number ${number} of CRL ${name}`] : [],
  );
}

/** The leaves, one after another. */
class LogReading {
  readonly repeatedSerials: string[] = [];
  readonly crlProblems: string[] = [];
  readonly lastCrlNumbers = new Map<string, bigint>();
  readonly #sizes: ReadonlySet<number>;
  readonly #frontier = Frontier.empty();
  readonly #leafSha256: string[] = [];
  readonly #roots = new Map<number, Buffer>();
  readonly #certificateLeaves = new Map<string, number>();
  readonly #serials = new Set<string>();
  readonly #revocationLeaves = new Map<number, string>();
  readonly #crlLeaves = new Map<string, string>();

  constructor(sizes: ReadonlySet<number>) {
    this.#sizes = sizes;
  }

  take(index: number, bytes: Buffer): void {
    this.#leafSha256[index] = hash('sha256', bytes);
    this.#frontier.append(hashLeaf(bytes));
    if (this.#sizes.has(this.#frontier.size)) this.#roots.set(this.#frontier.size, this.#frontier.root());
    const leaf = decodeLeaf(bytes);
    if (leaf.type === 'certificate') this.#takeCertificate(index, leaf);
    if (leaf.type === 'revocation') this.#revocationLeaves.set(index, decodeRevocationBody(leaf.body).serial);
    if (leaf.type === 'crl') this.#takeCrl(index, leaf);
  }

  result() {
    return {
      treeSize: this.#frontier.size,
      certificateLeaves: this.#certificateLeaves,
      revocationLeaves: this.#revocationLeaves,
      crlLeaves: this.#crlLeaves,
      leafSha256: (index: number) => this.#leafSha256[index],
      rootOf: (treeSize: number) => this.#roots.get(treeSize),
    };
  }

  #takeCertificate(index: number, leaf: Leaf): void {
    const { serial } = parseTbsCertificate(leaf.body);
    if (this.#serials.has(serial)) this.repeatedSerials.push(serial);
    this.#serials.add(serial);
    this.#certificateLeaves.set(hash('sha256', leaf.body), index);
  }

  /** The root's CRL of `vouch init` shares the scope's name; of one issuer and scope numbers only rise. */
  #takeCrl(index: number, leaf: Leaf): void {
    const { scope, crlNumber, tbsSha256 } = decodeCrlBody(leaf.body);
    const name = `${leaf.issuerKeyId} ${scope}`;
    const before = this.lastCrlNumbers.get(name) ?? -1n;
    if (crlNumber <= before)
      this.crlProblems.push(`leaf ${index}: CRL ${scope} ${crlNumber} after ${before}`);
    this.lastCrlNumbers.set(name, crlNumber);
    this.#crlLeaves.set(`${scope} ${crlNumber}`, tbsSha256.toString('hex'));
  }
}

/** What `vouch init` founded: the active issuer, the root's statement, the root itself. */
export function readFoundation(databaseFile: string): {
  issuerDer: Buffer;
  rootDer: Buffer;
  statement: string;
} {
  const database = new Database(databaseFile, { readonly: true });
  try {
    const one = <Value>(sql: string): Value => {
      const value = database.prepare<[], Value>(sql).pluck().get();
      if (value === undefined) throw new Error(`vouch init left nothing to: ${sql}`);
      return value;
    };
    return {
      issuerDer: one<Buffer>(
        "SELECT certificate_der FROM authorities WHERE kind = 'issuer' AND state = 'active'",
      ),
      rootDer: one<Buffer>("SELECT certificate_der FROM authorities WHERE kind = 'root'"),
      statement: one<string>('SELECT jws FROM statements ORDER BY sequence DESC LIMIT 1'),
    };
  } finally {
    database.close();
  }
}
