import { createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import { verifyAnswer } from '../../src/agent/answer.ts';
import { connectServer, learnRoot } from '../../src/agent/connection.ts';
import type { Seen } from '../../src/agent/state.ts';
import { systemClock } from '../../src/core/clock.ts';
import { asVouchError, VouchError } from '../../src/core/errors.ts';
import {
  bindingBytes,
  bindingInput,
  type CertificateAnswer,
  certificateAnswerSchema,
  channelBindingLabel,
  enrollmentPaths,
  evidenceBytes,
  problemSchema,
  renewalEvidenceBytes,
} from '../../src/wire/enrollment.ts';
import type { JoinFile } from '../../src/wire/join-file.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { buildCsr } from '../../src/x509/csr.ts';
import { encodePem } from '../../src/x509/pem.ts';
import { type Answer, exchange } from './exchange.ts';
import { type History, monotonicNs, type Verdict } from './history.ts';
import type { Lineage, Operator, OperatorToken } from './operator.ts';
import type { Random } from './random.ts';

/** A certificate with its key, as a client keeps it. */
interface Held {
  chain: readonly Buffer[];
  serial: string;
  keyPem: string;
}

/** What a client asks with. */
type Credential = { token: OperatorToken } | { held: Held };

type Outcome = { held: Held } | { refused: VouchError };

interface Parts {
  /** Of the identities that it asks for. */
  namePrefix: string;
  operator: Operator;
  history: History;
  random: Random;
  /** From here on nothing new is begun. */
  stopping: AbortSignal;
}

/** Chances of what makes a life interesting. */
const chances = { rival: 0.15, answerLost: 0.06, hangsUp: 0.06 };
const renewalsMost = 4;
const pauseMs = { least: 5, most: 220 };
/** A request that is not answered for good within this time after the last kill is a fault. */
const patienceMs = 20_000;

/**
 * One workload after another: enrolls by a join token of its own, renews a few times with fresh keys, begins anew. It
 * asks with the same key until it is answered, and checks every answer as an agent does. Part of its answers it loses on
 * purpose; sometimes a thief uses its token at the same time.
 */
export class EnrollingClient {
  readonly #parts: Parts;
  #root: Buffer | undefined;
  #seen: Seen = { statement: 0, bundle: 0, treeSize: 0, head: undefined, crlNumbers: new Map() };

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async run(): Promise<void> {
    const { stopping } = this.#parts;
    for (let life = 0; !stopping.aborted; life += 1) await this.#live(life);
  }

  async #live(life: number): Promise<void> {
    const { namePrefix, operator, random, stopping } = this.#parts;
    const token = await operator.token(`${namePrefix}${life}`);
    if (token === undefined) return;
    let held = await this.#enroll(token);
    if (held === undefined) return;
    const lineage: Lineage = { serials: [held.serial], isBeingRevoked: false, revokedNs: undefined };
    operator.mayRevoke(lineage);
    for (let left = Math.floor(random.between(0, renewalsMost + 1)); left > 0; left -= 1) {
      await sleep(random.between(pauseMs.least, pauseMs.most));
      if (stopping.aborted) return;
      held = await this.#renew(held, lineage);
      if (held === undefined) return;
      lineage.serials.push(held.serial);
    }
  }

  /** Undefined where a thief was quicker. */
  async #enroll(token: OperatorToken): Promise<Held | undefined> {
    const { random, history } = this.#parts;
    const isStolen = random.chance(chances.rival);
    const asked = [this.#obtain({ token }), ...(isStolen ? [this.#obtain({ token })] : [])];
    const outcomes = await Promise.all(asked);
    const refusals = outcomes.flatMap((outcome) => ('refused' in outcome ? [outcome.refused] : []));
    for (const { code, detail } of refusals)
      if (!isStolen || !['policy-key-conflict', 'denied-token-used'].includes(code))
        history.fault('lost', `the token ${token.tokenId} was refused: ${code}: ${detail}`);
    // Two certificates for two keys are the checker's to find.
    if (refusals.length === outcomes.length)
      history.fault('lost', `the token ${token.tokenId} of one use was refused to everybody`);
    const [own] = outcomes;
    return own !== undefined && 'held' in own ? own.held : undefined;
  }

  /** Undefined where its lineage is revoked. */
  async #renew(held: Held, lineage: Lineage): Promise<Held | undefined> {
    const { history } = this.#parts;
    const revokedNs = lineage.revokedNs;
    const outcome = await this.#obtain({ held });
    if ('held' in outcome) {
      if (revokedNs !== undefined)
        history.fault('lost', `${held.serial} was renewed after its revocation was acknowledged`);
      return outcome.held;
    }
    const { code, detail } = outcome.refused;
    if (code !== 'denied-revoked' || !lineage.isBeingRevoked)
      history.fault('lost', `the renewal of ${held.serial} was refused: ${code}: ${detail}`);
    return undefined;
  }

  /** Asks with one key until there is an answer for good. */
  async #obtain(credential: Credential): Promise<Outcome> {
    const { random, stopping } = this.#parts;
    const key = generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey;
    let giveUpMs = Number.POSITIVE_INFINITY;
    for (;;) {
      if (stopping.aborted) giveUpMs = Math.min(giveUpMs, performance.now() + patienceMs);
      try {
        const held = await this.#attempt(credential, key);
        if (held !== undefined) return { held };
      } catch (error) {
        const failure = asVouchError(error);
        if (!isTransient(failure)) return { refused: failure };
        if (performance.now() > giveUpMs) return { refused: failure };
      }
      // Sooner than an agent would, and deaf to Retry-After: who waits is not there when the next kill comes.
      await sleep(random.between(5, 120));
    }
  }

  /** One request. Undefined where its answer did not get to where it counts. */
  async #attempt(credential: Credential, key: KeyObject): Promise<Held | undefined> {
    const { random, history } = this.#parts;
    const connecting = { clock: systemClock, signal: AbortSignal.timeout(10_000) };
    const { join } = this.#address(credential);
    this.#root ??= await learnRoot(join, connecting);
    const client = 'held' in credential ? mutualTls(credential.held) : undefined;
    const socket = await connectServer(join, this.#root, connecting, client);
    const treeSize = this.#seen.head?.treeSize;
    const body = requestBody(socket, credential, key, treeSize);
    const seen = this.#seen;
    const sentNs = monotonicNs();
    if (random.chance(chances.hangsUp)) setTimeout(() => socket.destroy(), random.between(0, 40));
    const path = 'token' in credential ? enrollmentPaths.enroll : enrollmentPaths.renew;
    const answer = await exchange(socket, new URL(join.server).host, path, body);
    if (answer.status !== 200) throw this.#refusal(answer);
    const received = { sentNs, ...('token' in credential ? { tokenId: credential.token.tokenId } : {}) };
    const parsed = answer.complete ? certificateAnswerSchema.safeParse(parseJson(answer.body)) : undefined;
    if (parsed?.success !== true) {
      if (answer.complete) history.fault('faults', 'an answer of status 200 has not the form of one');
      const der = leafIn(answer.body);
      if (der !== undefined) history.record({ kind: 'certificate', ...received, der, acked: false });
      return undefined;
    }
    const [der = Buffer.alloc(0)] = parsed.data.chain;
    const isKept = this.#believes(parsed.data, join, key, seen) && !random.chance(chances.answerLost);
    const { index, time, context, checkpoint } = parsed.data.proof;
    const proof = { index, timeMs: time, context: Buffer.from(context, 'hex'), checkpoint };
    history.record({ kind: 'certificate', ...received, der, acked: isKept, proof });
    if (!isKept) return undefined;
    const keyPem = key.export({ type: 'pkcs8', format: 'pem' }).toString();
    return { chain: parsed.data.chain, serial: parseCertificate(der).serial, keyPem };
  }

  /** What an agent checks before it delivers. `seen`: as it was when the request was sent. */
  #believes(answer: CertificateAnswer, join: JoinFile, key: KeyObject, seen: Seen): boolean {
    const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
    const root = this.#root ?? Buffer.alloc(0);
    try {
      const expected = { address: join, root, spki, seen, spiffeId: undefined, nowMs: systemClock.now() };
      const verified = verifyAnswer(answer, expected);
      if (verified.seen.treeSize >= this.#seen.treeSize) this.#seen = verified.seen;
      return true;
    } catch (error) {
      const { code, detail } = asVouchError(error);
      const verdict: Verdict = code.startsWith('integrity-') ? 'regressions' : 'faults';
      this.#parts.history.fault(verdict, `an agent would refuse an answer: ${code}: ${detail}`);
      return false;
    }
  }

  /** A failure as an agent reads it; what no healthy server says is a fault besides. */
  #refusal(answer: Answer): VouchError {
    const problem = problemSchema.safeParse(parseJson(answer.body));
    const code = (problem.success ? problem.data.code : undefined) ?? 'internal';
    const detail = (problem.success ? problem.data.detail : undefined) ?? `status ${answer.status}`;
    const { history } = this.#parts;
    if (code === 'policy-not-fresh') history.fault('regressions', `the server's log is smaller: ${detail}`);
    if (code.startsWith('integrity-') || (code === 'internal' && answer.complete))
      history.fault('faults', `the server failed: ${code}: ${detail}`);
    const isPassing = answer.status >= 500 || answer.status === 429 || code === 'policy-entry-changed';
    return new VouchError(isPassing ? 'unavailable-server' : (code as VouchError['code']), detail);
  }

  #join: JoinFile | undefined;
  #address(credential: Credential): { join: JoinFile } {
    if ('token' in credential) this.#join = credential.token.join;
    if (this.#join === undefined) throw new Error('a renewal before any enrollment');
    return { join: this.#join };
  }
}

function requestBody(
  socket: TLSSocket,
  credential: Credential,
  key: KeyObject,
  treeSize: number | undefined,
): object {
  const evidence =
    'token' in credential ? { type: 'join_token', data: credential.token.join.token } : undefined;
  const signedEvidence =
    'held' in credential
      ? renewalEvidenceBytes(credential.held.chain[0] ?? Buffer.alloc(0))
      : evidenceBytes(evidence ?? { type: '', data: '' });
  const exporter = socket.exportKeyingMaterial(bindingBytes, channelBindingLabel, Buffer.alloc(0));
  return {
    ...(evidence === undefined ? {} : { evidence }),
    csr: buildCsr(key).toString('base64'),
    binding: { signature: sign('sha256', bindingInput(exporter, signedEvidence), key).toString('base64') },
    ...(treeSize === undefined ? {} : { treeSize }),
  };
}

function mutualTls(held: Held): { cert: string; key: string } {
  const cert = held.chain
    .slice(0, -1)
    .map((der) => encodePem('CERTIFICATE', der))
    .join('');
  return { cert, key: held.keyPem };
}

function isTransient(error: VouchError): boolean {
  return error.code.startsWith('unavailable-') || error.code === 'internal';
}

/** The leaf of an answer that broke off, if that much of it came: the chain is its first member. */
function leafIn(body: Buffer): Buffer | undefined {
  const leaf = /^\{"chain":\["([A-Za-z0-9+/=]+)"/.exec(body.toString('latin1'))?.[1];
  return leaf === undefined ? undefined : Buffer.from(leaf, 'base64');
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}
