import { setTimeout as sleep } from 'node:timers/promises';
import { callAdmin } from '../../src/cli/admin-client.ts';
import { VouchError } from '../../src/core/errors.ts';
import { adminPaths } from '../../src/wire/admin.ts';
import { type JoinFile, parseJoinFile } from '../../src/wire/join-file.ts';
import { type History, monotonicNs } from './history.ts';
import type { Random } from './random.ts';

/** An enrollment with its renewals, as its client knows it. */
export interface Lineage {
  serials: string[];
  /** A revocation was sent: from here on the client may be refused. */
  isBeingRevoked: boolean;
  /** When an answer said that it is revoked: from here on the client must be refused. */
  revokedNs: number | undefined;
}

/** A join token of one use, from an operator who was answered. */
export interface OperatorToken {
  tokenId: string;
  join: JoinFile;
}

interface Parts {
  adminSocket: string;
  history: History;
  random: Random;
  stopping: AbortSignal;
}

const reasons = ['superseded', 'cessationOfOperation', 'keyCompromise', 'unspecified'] as const;

/** The operator at the admin socket: makes tokens, and now and then revokes what some client enrolled. */
export class Operator {
  readonly #parts: Parts;
  readonly #lineages: Lineage[] = [];

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** A fresh token for one identity; asks until it is answered. Undefined at the end of the campaign. */
  async token(spiffeId: string): Promise<OperatorToken | undefined> {
    const { history } = this.#parts;
    const made = await this.#ask<{ tokenId: string; joinFile: string }>(adminPaths.tokens, { spiffeId });
    if (made === undefined) return undefined;
    history.record({ kind: 'token', tokenId: made.tokenId });
    return { tokenId: made.tokenId, join: parseJoinFile(made.joinFile) };
  }

  /** Hands over an acked enrollment: what may be revoked. */
  mayRevoke(lineage: Lineage): void {
    this.#lineages.push(lineage);
  }

  /** Revokes until the campaign ends; the last one is seen through. */
  async run(): Promise<void> {
    const { random, stopping } = this.#parts;
    while (!stopping.aborted) {
      // The CRLs' thisUpdate rises by a second with each: faster than that for long, and publication waits (I5).
      await sleep(random.between(300, 1500), undefined, { signal: stopping }).catch(() => undefined);
      const lineage = random.pick(this.#lineages.filter((one) => !one.isBeingRevoked));
      if (!stopping.aborted && lineage !== undefined) await this.#revoke(lineage);
    }
  }

  async #revoke(lineage: Lineage): Promise<void> {
    const { history, random } = this.#parts;
    const serial = random.pick(lineage.serials);
    const reason = random.pick(reasons);
    lineage.isBeingRevoked = true;
    history.record({ kind: 'revoking' });
    let sentNs = 0;
    const done = await this.#ask<{
      revoked: { serial: string }[];
      alreadyRevoked: string[];
      published: boolean;
    }>(
      adminPaths.revocations,
      { target: { serial }, reason },
      { untilDone: true, sending: () => (sentNs = monotonicNs()) },
    );
    if (done === undefined) return;
    const serials = [...done.revoked.map((one) => one.serial), ...done.alreadyRevoked];
    if (serial !== undefined && !serials.includes(serial))
      history.fault('lost', `the answer to the revocation of ${serial} does not name it`);
    lineage.revokedNs = history.record({ kind: 'revoked', sentNs, serials, published: done.published });
  }

  /** The same request until it is answered; a refusal is a fault, since nothing here deserves one. */
  async #ask<Result>(
    path: string,
    body: object,
    options: { untilDone?: boolean; sending?: () => void } = {},
  ): Promise<Result | undefined> {
    const { adminSocket, history, random, stopping } = this.#parts;
    while (options.untilDone === true || !stopping.aborted) {
      try {
        options.sending?.();
        return await callAdmin<Result>(adminSocket, 'POST', path, body);
      } catch (error) {
        if (error instanceof VouchError && !isTransient(error)) {
          history.fault('lost', `the operator was refused at ${path}: ${error.code}: ${error.detail}`);
          return undefined;
        }
      }
      await sleep(random.between(5, 60));
    }
    return undefined;
  }
}

/** An answer that broke off counts as none: `callAdmin` finds that it is no JSON, and names its status. */
function isTransient({ code, detail }: VouchError): boolean {
  const isBroken = code === 'internal' && detail.startsWith('the server answered');
  return code.startsWith('unavailable-') || isBroken || code === 'policy-entry-changed';
}
