import { writeFileSync } from 'node:fs';
import { afterEach, expect, it } from 'vitest';
import type { SupervisedSigner } from '../../src/signer/supervisor.ts';
import { simulatedToken } from '../support/hsm-sim.ts';
import { LiveLog, liveCertificate, liveSigner, startSigner } from './live.ts';

const batchItems = 64;
/** As many as the sequencer has at the signer. */
const batchesAtOnce = 2;
const runMs = 3000;

let signer: SupervisedSigner | undefined;

afterEach(async () => {
  await signer?.close();
  signer = undefined;
});

/** Certificates a second through a signer process with so many sessions. */
async function certificatesPerSecond(log: LiveLog, sessions: number): Promise<number> {
  const { live } = log;
  writeFileSync(live.configFile, JSON.stringify({ ...live.config, workers: sessions }));
  signer = startSigner(log);
  const own = signer;
  log.checkpoint = (await own.ready()).note;
  await expect.poll(() => own.status().sessions?.open, { timeout: 30_000 }).toBe(sessions);
  const startedMs = performance.now();
  let signed = 0;
  const oneAfterTheOther = async (): Promise<void> => {
    while (performance.now() - startedMs < runMs) {
      const items = Array.from({ length: batchItems }, () => liveCertificate(live));
      const { signatures, checkpoint } = await own.append({ firstIndex: log.commit(items), items });
      log.checkpoint = checkpoint.note;
      signed += signatures.filter((signature) => Buffer.isBuffer(signature)).length;
    }
  };
  await Promise.all(Array.from({ length: batchesAtOnce }, oneAfterTheOther));
  const perSecond = (signed * 1000) / (performance.now() - startedMs);
  await own.close();
  return perSecond;
}

it.each([
  ['a network HSM in the same data centre (profile luna-7)', 'luna-7', undefined],
  ['a network HSM ten milliseconds away', undefined, 'C_Sign delay=10'],
] as const)(
  '%s signs the more the more sessions there are',
  async (what, profile, rules) => {
    const token = simulatedToken('online', profile === undefined ? {} : { profile });
    const log = new LiveLog(await liveSigner({}, token));
    if (rules !== undefined) token.control(rules);
    const rates: [sessions: number, perSecond: number][] = [];
    for (const sessions of [1, 2, 4, 8]) rates.push([sessions, await certificatesPerSecond(log, sessions)]);
    const [[, one] = [1, 0]] = rates;
    const table = rates.map(([n, rate]) => `${n}: ${rate.toFixed(0)}/s, ${(rate / one).toFixed(2)}×`);
    console.log(`${what}\n  ${table.join('\n  ')}`);
    // A machine that is busy otherwise ends the growth earlier than the token does.
    expect((rates[1]?.[1] ?? 0) / one).toBeGreaterThan(1.6);
    expect((rates[2]?.[1] ?? 0) / one).toBeGreaterThan(2.4);
  },
  180_000,
);
