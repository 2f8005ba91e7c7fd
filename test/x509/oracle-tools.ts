import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CertificateTemplate } from '../../src/x509/certificate-tbs.ts';
import type { CrlTemplate } from '../../src/x509/crl-tbs.ts';
import {
  ecKey,
  makeCrl,
  makeIssuer,
  makeLeaf,
  makeRoot,
  type TestAuthority,
  type TestKey,
} from './authority.ts';

/** What a tool said and how it ended. */
export interface ToolAnswer {
  status: number | null;
  output: string;
}

/** Runs another implementation's tool; stdout and stderr together. */
export function runTool(command: string, ...args: readonly string[]): ToolAnswer {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    timeout: 60_000,
    maxBuffer: 1 << 28,
  });
  if (error) throw new Error(`${command} did not run; ./scripts/setup installs it`, { cause: error });
  return { status, output: `${stdout}${stderr}` };
}

/** A directory for one test file's artefacts. */
export class ArtefactDirectory implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'vouch-oracle-'));

  /** Writes a file and gives its path. */
  write(name: string, content: string | Buffer): string {
    const file = join(this.path, name);
    writeFileSync(file, content, { mode: 0o600 });
    return file;
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** A root, an issuer and its leaves that are valid by the machine's clock, which GnuTLS and NSS go by. */
export class CurrentAuthority {
  readonly nowSeconds = Math.floor(Date.now() / 1000);
  readonly root: TestAuthority;
  readonly issuer: TestAuthority;
  readonly #validity = { notBeforeSeconds: this.nowSeconds - 120, notAfterSeconds: this.nowSeconds + 86_400 };

  constructor(
    rootKey: TestKey = ecKey('P-384'),
    issuerKey: TestKey = ecKey(),
    issuerChange: Partial<CertificateTemplate> = {},
  ) {
    this.root = makeRoot(
      { ...this.#validity, notAfterSeconds: this.nowSeconds + 10 * 365 * 86_400 },
      rootKey,
    );
    this.issuer = makeIssuer(this.root, { ...this.#validity, ...issuerChange }, issuerKey);
  }

  leaf(change: Partial<CertificateTemplate> = {}): Buffer {
    return makeLeaf(this.issuer, { ...this.#validity, notAfterSeconds: this.nowSeconds + 3599, ...change });
  }

  crl(change: Partial<CrlTemplate> = {}, by: TestAuthority = this.issuer): Buffer {
    return makeCrl(by, {
      thisUpdateSeconds: this.nowSeconds - 60,
      nextUpdateSeconds: this.nowSeconds + 86_400,
      crlNumber: BigInt(this.nowSeconds * 1000),
      ...change,
    });
  }
}
