import { statePaths } from '../../src/config/config.ts';
import { callAdmin } from '../../src/cli/admin-client.ts';
import { readAuthority } from '../../src/signer/authority-file.ts';
import { policyIssuer } from '../../src/signer/policy-issuer.ts';
import { adminPaths } from '../../src/wire/admin.ts';
import { parseJoinFile } from '../../src/wire/join-file.ts';
import { Authority, type Made, type Ready } from '../kills/authority.ts';
import { type CaseResult, Matrix } from './campaign.ts';
import type { Case } from './cases.ts';
import { Control } from './control.ts';
import { Enroller, makeKeys } from './enroller.ts';
import { crashes, type Figure, flippedBits, hang, sessionLoss } from './figures.ts';
import { type Testimony, testimony } from './witness.ts';

const trustDomain = 'matrix.test';

/** One authority behind a simulated token, with the cases that it lives through one after another. */
export class Lane {
  readonly authority: Authority;
  readonly control: Control;
  readonly tally = { failed: 0, enrolled: 0, problems: 0, slowestMs: [] as number[], backMs: [] as number[] };
  #parts: { made: Made; ready: Ready; enroller: Enroller } | undefined;

  constructor(dist: string) {
    this.authority = new Authority(dist, { simulated: true });
    this.control = new Control(this.authority.simulator.control);
  }

  async begin(): Promise<void> {
    const made = await this.authority.init(trustDomain);
    const ready = await this.authority.start().ready;
    this.#parts = { made, ready, enroller: new Enroller(await joinFile(this.authority)) };
  }

  /** Takes cases until none is left; `told` hears of each. */
  async live(cases: Case[], told: (one: Case, result: CaseResult) => void): Promise<void> {
    const { enroller } = this.#begun();
    const matrix = new Matrix({ authority: this.authority, control: this.control, enroller });
    for (let one = cases.shift(); one !== undefined; one = cases.shift()) {
      makeKeys(100);
      const result = await matrix.live(one);
      this.tally.enrolled += result.enrolled;
      this.tally.slowestMs.push(result.slowestMs);
      this.tally.backMs.push(result.backMs);
      this.tally.problems += result.problems.length;
      if (result.problems.length > 0) this.tally.failed += 1;
      told(one, result);
    }
  }

  async measure(): Promise<Figure[]> {
    const { made, ready, enroller } = this.#begun();
    const parts = { ...made, operationsUrl: ready.operationsUrl, control: this.control, enroller };
    const figures: Figure[] = [];
    for (const figure of [sessionLoss, crashes, flippedBits, hang]) {
      makeKeys(600);
      figures.push(await figure(parts));
    }
    return figures;
  }

  /** Ends the server, which must be the one that began, and holds the token's log of signatures against ours. */
  async end(complain: (line: string) => void): Promise<Testimony> {
    const code = await this.authority.stop();
    if (code !== 0) {
      complain(`the server did not stop when asked (exit ${code}): it was not the one that began`);
      this.tally.problems += 1;
    }
    const { authority } = this;
    return testimony(authority.simulator.log, authority.database, publicKeysOf(authority));
  }

  #begun() {
    if (this.#parts === undefined) throw new Error('a lane that has not begun');
    return this.#parts;
  }
}

async function joinFile({ adminSocket }: Authority) {
  const asked = { spiffeId: `spiffe://${trustDomain}/workload`, uses: 10_000, ttlSeconds: 24 * 3600 };
  const { joinFile: text } = await callAdmin<{ joinFile: string }>(
    adminSocket,
    'POST',
    adminPaths.tokens,
    asked,
  );
  return parseJoinFile(text);
}

/** Every key that the token's log may name. */
function publicKeysOf(authority: Authority): Buffer[] {
  const { logKey, jwtKey, issuers } = readAuthority(statePaths(authority.state).authority);
  const others = [logKey, ...(jwtKey ? [jwtKey] : [])];
  return [
    ...others.map(({ publicKeySpki }) => publicKeySpki),
    ...issuers.map((issuer) => policyIssuer(issuer).spki),
  ];
}
