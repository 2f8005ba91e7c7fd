import { caOf, issuerOf } from '../../src/issuance/issuer.ts';
import { openStatement } from '../../src/log/statement.ts';
import type { Authority, Made } from './authority.ts';
import { Checker } from './checker.ts';
import type { KillsEvent } from './history.ts';
import { missingCertificates, readFoundation, readState } from './state-reading.ts';
import type { Verdicts } from './verdicts.ts';

interface Parts {
  authority: Authority;
  made: Made;
  verdicts: Verdicts;
}

interface Verification {
  problems: string[];
}

/** Brings the checker what it holds the history against: the state on disk, and what the program's own verbs say. */
export class Auditor {
  readonly #parts: Parts;
  readonly #checker: Checker;
  /** Serials that `vouch cert list` was held against. */
  #listed: ReadonlySet<string> = new Set();

  constructor(parts: Parts) {
    const { issuerDer, rootDer, statement } = readFoundation(parts.authority.database);
    const { logKeys } = openStatement(statement, caOf(rootDer).publicKey);
    const [logKey] = logKeys;
    if (logKey === undefined) throw new Error('the statement names no log key');
    this.#parts = parts;
    this.#checker = new Checker({
      issuer: issuerOf({ certificateDer: issuerDer, algorithm: 'ecdsa-sha256' }),
      logKey,
      verdicts: parts.verdicts,
    });
  }

  get acked(): number {
    return this.#checker.acked;
  }

  get revoked(): number {
    return this.#checker.revoked;
  }

  take(event: KillsEvent): void {
    this.#checker.take(event);
  }

  /** Whether the store has what was acked since the last time; cheap. */
  glance(): void {
    const { authority, verdicts } = this.#parts;
    for (const serial of missingCertificates(authority.database, this.#checker.freshlyAcked()))
      verdicts.add('lost', `the store does not have ${serial} as its client does`);
  }

  /** Everything against everything. `ending`: the public tree, too. `stopped`: only what needs no server. */
  async audit(phase: 'running' | 'ending' | 'stopped'): Promise<void> {
    const { authority, made, verdicts } = this.#parts;
    await this.#verify(['--state', authority.state, '--root-pin', made.rootPin]);
    if (phase === 'ending') await this.#verify(['--url', made.publicationUrl, '--root-pin', made.rootPin]);
    if (phase !== 'stopped') await this.#compareList(phase === 'ending');
    try {
      this.#checker.compare(readState(authority.database, this.#checker.shownSizes));
    } catch (error) {
      verdicts.add('lost', `the store cannot be read: ${error instanceof Error ? error.message : 'unknown'}`);
    }
  }

  /** At the end, when the operator is answered and everything was read once more. */
  finish(): void {
    this.#checker.finish();
  }

  /** `vouch log verify`; what it finds counts as a regression: the log is not what it was. */
  async #verify(argv: readonly string[]): Promise<void> {
    const { authority, verdicts } = this.#parts;
    const { problems } = await authority
      .verb<Verification>(['log', 'verify', ...argv])
      .catch((error: unknown) => ({ problems: saidBy(error) }));
    for (const problem of problems) verdicts.add('regressions', `vouch log verify ${argv[0]}: ${problem}`);
  }

  /** `vouch cert list`, newest first: every acked certificate is there. At the end all of them, else what is new. */
  async #compareList(all: boolean): Promise<void> {
    const { authority, verdicts } = this.#parts;
    const acked = this.#checker.ackedSerials();
    const wanted = new Set([...acked].filter((serial) => all || !this.#listed.has(serial)));
    let after: string | null = '';
    while (after !== null && wanted.size > 0) {
      const page: { certificates: { serial: string }[]; next: string | null } = await authority.verb([
        ...['cert', 'list', '--config', authority.config, '--limit', '1000'],
        ...(after === '' ? [] : ['--after', after]),
      ]);
      for (const { serial } of page.certificates) wanted.delete(serial);
      after = page.next;
    }
    this.#listed = acked;
    for (const serial of wanted) verdicts.add('lost', `vouch cert list does not show ${serial}`);
  }
}

/** Exit 1 comes with the problems on stdout, where it got so far. */
function saidBy(error: unknown): string[] {
  const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
  try {
    return (JSON.parse(stdout) as Verification).problems;
  } catch {
    return [stderr.trim() || String(error)];
  }
}
