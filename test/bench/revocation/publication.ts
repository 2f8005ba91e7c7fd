import { setTimeout as sleep } from 'node:timers/promises';
import { crlUrl, shardOf } from '../../../src/core/publication.ts';
import { percentile } from '../../kills/result.ts';
import type { Bed } from './bed.ts';
import { WatchedCrl } from './fetched.ts';
import type { FetchedCrls } from './verifiers.ts';
import type { Identity } from './identities.ts';

/** Pause between two revocations back to back. */
const everyMs = 200;

/** From the operator's request until a reader has the serial, in milliseconds. */
export interface PublicationFigures {
  shard: { rest: number[]; busy: number[] };
  full: { rest: number[]; busy: number[] };
  /** Longest stretch that the server's event loop stood still, as its own metric has it. */
  loopDelayMsMax: number;
}

/** What was measured, and what was fetched. */
export interface Published {
  figures: PublicationFigures;
  crls: FetchedCrls;
  revoked: Identity;
}

/** Revokes `rounds` certificates one at a time, each when the one before is on every CRL, then as many at 5 a second. */
export async function measurePublication(bed: Bed, rounds: number): Promise<Published> {
  const { publicationUrl, issuerKeyId } = bed.made;
  const watched = (url: string): WatchedCrl => new WatchedCrl(url);
  const full = watched(crlUrl(publicationUrl, issuerKeyId, 'full'));
  const shards = Array.from({ length: bed.shardCount }, (_, shard) =>
    watched(crlUrl(publicationUrl, issuerKeyId, String(shard))),
  );
  for (const crl of [full, ...shards]) await crl.prime();
  const victims = await bed.enroll('victim', 2 * rounds);
  const figures: PublicationFigures = {
    shard: { rest: [], busy: [] },
    full: { rest: [], busy: [] },
    loopDelayMsMax: 0,
  };
  const loop = new LoopDelay(bed);
  await loop.forget();
  const shardOfIdentity = ({ serial }: Identity): WatchedCrl =>
    shards[shardOf(serial, bed.shardCount)] ?? full;
  const one = async (victim: Identity, phase: 'rest' | 'busy'): Promise<void> => {
    const { serial } = victim;
    const shard = shardOfIdentity(victim);
    const { startMs, answered } = bed.revoke(serial);
    const [, shardMs, fullMs] = await Promise.all([answered, shard.listed(serial), full.listed(serial)]);
    figures.shard[phase].push(shardMs - startMs);
    figures.full[phase].push(fullMs - startMs);
    await loop.look();
  };
  for (const victim of victims.slice(0, rounds)) await one(victim, 'rest');
  const busy: Promise<void>[] = [];
  for (const victim of victims.slice(rounds)) {
    busy.push(one(victim, 'busy'));
    await sleep(everyMs);
  }
  await Promise.all(busy);
  for (const crl of [full, ...shards]) crl.close();
  const [revoked] = victims;
  if (revoked === undefined) throw new Error('nobody was revoked');
  return {
    figures: { ...figures, loopDelayMsMax: loop.maxMs },
    crls: {
      full: full.der,
      shardOf: (identity) => shardOfIdentity(identity).der,
      delta: {
        base: await fetched(crlUrl(publicationUrl, issuerKeyId, 'base')),
        delta: await fetched(crlUrl(publicationUrl, issuerKeyId, 'delta')),
      },
    },
    revoked,
  };
}

async function fetched(url: string): Promise<Buffer> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} answers ${response.status}`);
  return Buffer.from(await response.arrayBuffer());
}

/** Reads the server's metric, which begins anew each time that it is read. */
class LoopDelay {
  readonly #bed: Bed;
  maxMs = 0;

  constructor(bed: Bed) {
    this.#bed = bed;
  }

  /** What the start took counts elsewhere. */
  async forget(): Promise<void> {
    await this.look();
    this.maxMs = 0;
  }

  async look(): Promise<void> {
    const text = await (await fetch(`${this.#bed.operationsUrl}/metrics`)).text();
    const seconds = Number(/^vouch_nodejs_eventloop_lag_max_seconds (\S+)$/m.exec(text)?.[1]);
    this.maxMs = Math.max(this.maxMs, seconds * 1000);
  }
}

/** p99 of both phases together. */
export function p99({ rest, busy }: { rest: number[]; busy: number[] }): number {
  return percentile([...rest, ...busy], 0.99);
}
