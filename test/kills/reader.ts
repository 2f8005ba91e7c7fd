import { get } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { asVouchError } from '../../src/core/errors.ts';
import { type History, monotonicNs } from './history.ts';
import type { Random } from './random.ts';

interface Parts {
  publicationUrl: string;
  issuerKeyId: string;
  history: History;
  random: Random;
  stopping: AbortSignal;
}

/** As `vouch init` sets it. */
const shardCount = 16;
const shardsEachRound = 3;
/** What a server serves before it has caught up is served for milliseconds. */
const eagerRoundsAfterStart = 40;

/** A verifier that reads all that is public, over and over, most of all where the server has just come back. */
export class Reader {
  readonly #parts: Parts;
  readonly #last = new Map<string, Buffer>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async run(): Promise<void> {
    const { stopping, random } = this.#parts;
    let eagerRounds = 0;
    while (!stopping.aborted) {
      const isUp = await this.#round(eagerRounds > 0 ? [] : this.#someShards());
      eagerRounds = isUp ? Math.max(0, eagerRounds - 1) : eagerRoundsAfterStart;
      await sleep(isUp ? (eagerRounds > 0 ? 0 : random.between(20, 80)) : 2);
    }
  }

  /** Reads every CRL once. */
  async readAll(): Promise<void> {
    await this.#round(Array.from({ length: shardCount }, (_, shard) => shard));
  }

  /** False where nobody answers. */
  async #round(shards: readonly number[]): Promise<boolean> {
    const { publicationUrl, issuerKeyId, history } = this.#parts;
    const crls = `${publicationUrl}/crl/${issuerKeyId}`;
    try {
      await this.#crl(`${crls}.crl`);
      for (const shard of shards) await this.#crl(`${crls}/${shard}.crl`);
      const sentNs = monotonicNs();
      const note = await fetched(`${publicationUrl}/log/checkpoint`);
      if (note !== undefined) history.record({ kind: 'checkpoint', sentNs, note: note.toString('utf8') });
      return true;
    } catch (error) {
      if (isAway(error)) return false;
      history.fault('faults', `the publication listener answers strangely: ${asVouchError(error).stack}`);
      return true;
    }
  }

  #someShards(): number[] {
    const { random } = this.#parts;
    return Array.from({ length: shardsEachRound }, () => Math.floor(random.between(0, shardCount)));
  }

  async #crl(url: string): Promise<void> {
    const { history } = this.#parts;
    const sentNs = monotonicNs();
    const der = await fetched(url);
    if (der === undefined) return;
    const isNew = this.#last.get(url)?.equals(der) !== true;
    this.#last.set(url, der);
    history.record({ kind: 'crl', sentNs, url, ...(isNew ? { der } : {}) });
  }
}

/** The whole body of a 200, undefined for any other status. Rejects where it breaks off. */
function fetched(url: string): Promise<Buffer | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer | undefined>();
  const asked = get(url, { agent: false, timeout: 5000 }, (response) => {
    const chunks: Buffer[] = [];
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    response.on('error', reject);
    response.on('end', () => resolve(response.statusCode === 200 ? Buffer.concat(chunks) : undefined));
  });
  asked.on('timeout', () => asked.destroy(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' })));
  asked.on('error', reject);
  return promise;
}

function isAway(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  return ['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT'].includes(code);
}
