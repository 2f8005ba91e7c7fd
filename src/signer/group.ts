import { asVouchError, isIntegrityFailure, isOtherLog, VouchError } from '../core/errors.ts';
import type { Checkpoint } from '../log/checkpoint.ts';
import { decodeLeaf } from '../log/leaf.ts';
import type { JwtClaims } from '../core/jwt-svid.ts';
import type { OcspAnswer } from '../x509/ocsp.ts';
import type {
  AppendBatch,
  AppendItem,
  AppendResult,
  JwtKey,
  OcspKey,
  Signer,
  SignerStatus,
  SignLogged,
} from './port.ts';
import type { SupervisedSigner } from './supervisor.ts';

/** A signer with the issuers whose keys are in its token. */
export interface GroupMember {
  issuerKeyIds: readonly string[];
  signer: SupervisedSigner;
}

/** What a group is told besides. */
export interface GroupOptions {
  /** Called when one of them says that the log is not what it was: nothing may be signed by any of them then. */
  onIntegrityFailure: (error: VouchError) => void;
}

/** Several signers over one log, each with a token, an issuer and a log key of its own. */
export interface SignerGroup extends Signer {
  /**
   * Resolves when the first of them signs. Rejects where one finds the log rewound or another, and with the first
   * failure where none of them will sign.
   */
  ready(): Promise<Checkpoint>;
  /** Resolves when every one of them signs; rejects as soon as one will not. */
  allReady(): Promise<unknown>;
}

/**
 * Makes one signer of several. Every batch goes to all of them, so that each has the whole tree whenever it is needed;
 * each signs what is its issuer's, and only those with something to sign are waited for. One that is away takes the
 * tree up again when it is back, as its supervisor does with every new process.
 */
export function signerGroup(members: readonly GroupMember[], options: GroupOptions): SignerGroup {
  return new Group(members, options);
}

class Group implements SignerGroup {
  readonly #members: readonly GroupMember[];
  readonly #options: GroupOptions;
  readonly #ready: Promise<Checkpoint>;

  constructor(members: readonly GroupMember[], options: GroupOptions) {
    this.#members = members;
    this.#options = options;
    for (const { signer } of members) signer.ready().catch((error: unknown) => this.#note(error));
    this.#ready = this.#firstReady();
    this.#ready.catch(() => undefined);
  }

  async append(batch: AppendBatch): Promise<AppendResult> {
    const owners = batch.items.map((item) => this.#ownerOf(item));
    // All of them in this turn: each supervisor keeps the order in which it was asked.
    const answers = this.#members.map((member) => this.#appendTo(member, batch, owners));
    const needed = this.#members.flatMap((member, index) => {
      const answer = answers[index];
      return owners.includes(member) && answer ? [{ member, answer }] : [];
    });
    const settled = await Promise.allSettled(needed.map(({ answer }) => answer));
    const results = new Map(needed.map(({ member }, index) => [member, settled[index]]));
    const signed = settled.find((result) => result.status === 'fulfilled');
    // The log goes on with whoever signs it, whatever else is not signed.
    const { checkpoint } = signed?.value ?? (await firstOf(answers));
    const signatures = owners.map((owner, position) => {
      const result = owner && results.get(owner);
      if (!result) return batch.items[position]?.purpose === 'record' ? undefined : noToken();
      return result.status === 'fulfilled' ? result.value.signatures[position] : asVouchError(result.reason);
    });
    return { signatures, checkpoint };
  }

  signLogged(request: SignLogged): Promise<Buffer> {
    return this.#askOf(this.#ownerOf(request), ({ signer }) => signer.signLogged(request));
  }

  upload(issuerKeyId: string, chunks: Iterable<Buffer>): Promise<void> {
    return this.#askOf(this.#memberOf(issuerKeyId), ({ signer }) => signer.upload(issuerKeyId, chunks));
  }

  ocspKey(issuerKeyId: string): OcspKey | undefined {
    return this.#memberOf(issuerKeyId)?.signer.ocspKey(issuerKeyId);
  }

  signOcsp(issuerKeyId: string, answer: OcspAnswer): Promise<Buffer> {
    return this.#askOf(this.#memberOf(issuerKeyId), ({ signer }) => signer.signOcsp(issuerKeyId, answer));
  }

  jwtKey(issuerKeyId: string): JwtKey | undefined {
    return this.#memberOf(issuerKeyId)?.signer.jwtKey(issuerKeyId);
  }

  signJwt(issuerKeyId: string, keyId: string, claims: JwtClaims): Promise<Buffer> {
    return this.#askOf(this.#memberOf(issuerKeyId), ({ signer }) =>
      signer.signJwt(issuerKeyId, keyId, claims),
    );
  }

  status(issuerKeyId?: string): SignerStatus {
    const statuses = this.#members
      .filter((member) => issuerKeyId === undefined || member.issuerKeyIds.includes(issuerKeyId))
      .map(({ signer }) => signer.status());
    const [first] = statuses;
    if (!first) return withoutToken;
    const restarts = statuses.reduce((sum, status) => sum + status.restarts, 0);
    const failures = statuses.map((status) => status.failures).reduce(sumOf);
    return { ...(statuses.find(({ state }) => state === 'usable') ?? first), restarts, failures };
  }

  /** Whoever mended one of them is told of that one, though another signs meanwhile. */
  async retry(): Promise<SignerStatus> {
    const statuses = await Promise.all(this.#members.map(({ signer }) => signer.retry()));
    const index = statuses.findIndex(({ state }) => state !== 'usable');
    const left = statuses[index];
    if (!left) return this.status();
    return index === 0 ? left : { ...left, problem: `standby: ${left.problem ?? left.state}` };
  }

  ready(): Promise<Checkpoint> {
    return this.#ready;
  }

  #firstReady(): Promise<Checkpoint> {
    const { promise, resolve, reject } = Promise.withResolvers<Checkpoint>();
    let left = this.#members.length;
    let first: unknown;
    for (const { signer } of this.#members)
      signer.ready().then(resolve, (error: unknown) => {
        left -= 1;
        first ??= error;
        if (isOtherLog(error)) reject(asVouchError(error));
        else if (left === 0) reject(asVouchError(first));
      });
    return promise;
  }

  allReady(): Promise<unknown> {
    return Promise.all(this.#members.map(({ signer }) => signer.ready()));
  }

  async close(): Promise<void> {
    await Promise.all(this.#members.map(({ signer }) => signer.close()));
  }

  /** Whose issuer's leaf it is; undefined for what is only recorded. */
  #ownerOf({ purpose, leaf }: AppendItem): GroupMember | undefined {
    if (purpose === 'record') return undefined;
    return this.#memberOf(decodeLeaf(leaf).issuerKeyId);
  }

  #memberOf(issuerKeyId: string): GroupMember | undefined {
    return this.#members.find((member) => member.issuerKeyIds.includes(issuerKeyId));
  }

  async #askOf<Value>(
    member: GroupMember | undefined,
    ask: (member: GroupMember) => Promise<Value>,
  ): Promise<Value> {
    if (!member) throw noToken();
    try {
      return await ask(member);
    } catch (error) {
      throw this.#note(error);
    }
  }

  #appendTo(
    member: GroupMember,
    batch: AppendBatch,
    owners: readonly (GroupMember | undefined)[],
  ): Promise<AppendResult> {
    const items = batch.items.map((item, position): AppendItem => {
      const isForeign = item.purpose !== 'record' && owners[position] !== member;
      return isForeign ? { purpose: 'foreign', leaf: item.leaf } : item;
    });
    const answer = member.signer.append({ ...batch, items }).catch((error: unknown) => {
      throw this.#note(error);
    });
    // Who is not waited for may fail all the same.
    answer.catch(() => undefined);
    return answer;
  }

  /**
   * What the others need to know of a failure: another log than the one signed before stops all of them. Marks that are
   * missing or a token that is broken are one signer's own trouble.
   */
  #note(error: unknown): Error {
    const failure = asVouchError(error);
    if (isOtherLog(failure)) this.#options.onIntegrityFailure(failure);
    else if (isIntegrityFailure(failure))
      return new VouchError('unavailable-signer', 'the signer of this issuer is not usable; try again', {
        retryAfterSeconds: 30,
        cause: failure,
      });
    return failure;
  }
}

/** Of several answers to the same the first; where all failed, what weighs most. */
async function firstOf(answers: readonly Promise<AppendResult>[]): Promise<AppendResult> {
  try {
    return await Promise.any(answers);
  } catch (error) {
    const reasons: readonly unknown[] = (error as AggregateError).errors;
    throw asVouchError(reasons.find(isIntegrityFailure) ?? reasons[0]);
  }
}

function sumOf(a: SignerStatus['failures'], b: SignerStatus['failures']): SignerStatus['failures'] {
  return {
    session: a.session + b.session,
    login: a.login + b.login,
    process: a.process + b.process,
    start: a.start + b.start,
    late: a.late + b.late,
  };
}

const withoutToken: SignerStatus = {
  state: 'unusable',
  pid: undefined,
  restarts: 0,
  lastSuccessMs: undefined,
  problem: 'the configuration names no token with the key of this issuer',
  lastProblem: undefined,
  sessions: undefined,
  failures: { session: 0, login: 0, process: 0, start: 0, late: 0 },
};

function noToken(): VouchError {
  return new VouchError('unavailable-signer', 'no token with the key of this issuer is configured', {
    retryAfterSeconds: 30,
  });
}
