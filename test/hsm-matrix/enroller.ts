import { createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import { verifyAnswer } from '../../src/agent/answer.ts';
import { connectServer, learnRoot } from '../../src/agent/connection.ts';
import { systemClock } from '../../src/core/clock.ts';
import {
  bindingBytes,
  bindingInput,
  certificateAnswerSchema,
  channelBindingLabel,
  enrollmentPaths,
  evidenceBytes,
} from '../../src/wire/enrollment.ts';
import type { JoinFile } from '../../src/wire/join-file.ts';
import { buildCsr } from '../../src/x509/csr.ts';
import { exchange } from '../kills/exchange.ts';

/** One enrollment from its first request to its end. */
export interface Enrolled {
  startedMs: number;
  endedMs: number;
  /** Longest time that one of its requests took. */
  slowestMs: number;
  requests: number;
  /** Why it was given up; undefined where it has its certificate. */
  failure: string | undefined;
}

/** Between two tries; sooner than an agent, and deaf to Retry-After: it must meet the fault more than once. */
const pauseMs = 60;
/** Keys made beforehand: what is timed is the authority. */
const keys: KeyObject[] = [];

/** Enrolls workloads with one join token of many uses, and checks each answer as an agent does. */
export class Enroller {
  readonly #join: JoinFile;
  #root: Buffer | undefined;

  constructor(join: JoinFile) {
    this.#join = join;
  }

  /** Asks with one key until it has its certificate, is refused for good, or `patienceMs` are over. */
  async enroll(patienceMs: number): Promise<Enrolled> {
    const key = keys.pop() ?? newKey();
    const result = { startedMs: performance.now(), endedMs: 0, slowestMs: 0, requests: 0 };
    let failure: string | undefined;
    do {
      const askedMs = performance.now();
      result.requests += 1;
      const outcome = await this.#ask(key).catch((error: unknown) => ({
        again: true,
        why: error instanceof Error ? error.message : String(error),
      }));
      result.slowestMs = Math.max(result.slowestMs, performance.now() - askedMs);
      failure = outcome?.why;
      if (outcome === undefined || !outcome.again) break;
      await sleep(pauseMs);
    } while (performance.now() - result.startedMs < patienceMs);
    return { ...result, endedMs: performance.now(), failure };
  }

  /** One request; undefined where it gave a certificate that an agent would keep. */
  async #ask(key: KeyObject): Promise<{ again: boolean; why: string } | undefined> {
    const connecting = { clock: systemClock, signal: AbortSignal.timeout(10_000) };
    this.#root ??= await learnRoot(this.#join, connecting);
    const socket = await connectServer(this.#join, this.#root, connecting);
    const body = requestBody(socket, this.#join, key);
    const answer = await exchange(socket, new URL(this.#join.server).host, enrollmentPaths.enroll, body);
    const text = answer.body.toString('utf8');
    if (answer.status !== 200)
      return { again: answer.status === 503 || answer.status === 429, why: `${answer.status}: ${text}` };
    verifyAnswer(certificateAnswerSchema.parse(JSON.parse(text)), {
      address: this.#join,
      root: this.#root,
      spki: createPublicKey(key).export({ type: 'spki', format: 'der' }),
      seen: { statement: 0, bundle: 0, treeSize: 0, head: undefined, crlNumbers: new Map() },
      spiffeId: undefined,
      nowMs: systemClock.now(),
    });
    return undefined;
  }
}

/** Makes keys ahead, so that none is made while something is timed. */
export function makeKeys(count: number): void {
  while (keys.length < count) keys.push(newKey());
}

/** Enrolling workloads, `width` at a time, until they are told to end; all that was begun is seen through. */
export class Load {
  readonly done: Enrolled[] = [];
  readonly #stopping = new AbortController();
  readonly #lanes: Promise<void[]>;

  constructor(enroller: Enroller, width: number, patienceMs: number) {
    const lane = async (): Promise<void> => {
      while (!this.#stopping.signal.aborted) this.done.push(await enroller.enroll(patienceMs));
    };
    this.#lanes = Promise.all(Array.from({ length: width }, lane));
  }

  async end(): Promise<readonly Enrolled[]> {
    this.#stopping.abort();
    await this.#lanes;
    return this.done;
  }
}

function newKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey;
}

function requestBody(socket: TLSSocket, join: JoinFile, key: KeyObject): object {
  const evidence = { type: 'join_token', data: join.token };
  const exporter = socket.exportKeyingMaterial(bindingBytes, channelBindingLabel, Buffer.alloc(0));
  const signature = sign('sha256', bindingInput(exporter, evidenceBytes(evidence)), key);
  return {
    evidence,
    csr: buildCsr(key).toString('base64'),
    binding: { signature: signature.toString('base64') },
  };
}
