import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { endWithThisProcess } from '../support/campaign-process.ts';
import { Auditor } from './auditor.ts';
import { Authority } from './authority.ts';
import { Campaign, trustDomain } from './campaign.ts';
import { ClientsProcess } from './clients-process.ts';
import { summary } from './result.ts';
import { Verdicts } from './verdicts.ts';

/** What `npm run test:kills` takes. */
export interface KillsOptions {
  kills: number;
  seed: number;
  json: boolean;
}

/** For setting up and ending, and for each kill: past that something hangs. */
const watchdogMs = { base: 180_000, perKill: 6000 };

/** Runs one campaign from nothing, prints its result and returns the exit code. Whatever happens, no process stays. */
export async function runKills(options: KillsOptions): Promise<number> {
  const dist = resolve(process.env.VOUCH_DIST ?? join(import.meta.dirname, '../../dist'));
  const complain = (line: string): void => void process.stderr.write(`seed ${options.seed}: ${line}\n`);
  if (!existsSync(join(dist, 'vouch.js'))) {
    complain(`${dist} holds no build; run scripts/setup first`);
    return 1;
  }
  const authority = new Authority(dist);
  const users = new ClientsProcess();
  const end = (keepsFolder: boolean): void => {
    users.end();
    authority.endAll();
    if (!keepsFolder) authority.remove();
  };
  const afterMs = watchdogMs.base + options.kills * watchdogMs.perKill;
  endWithThisProcess({ end, complain, afterMs });
  const verdicts = new Verdicts(complain);
  const notice = (line: string): void => void (options.json || process.stderr.write(`${line}\n`));
  try {
    const made = await authority.init(trustDomain);
    const auditor = new Auditor({ authority, made, verdicts });
    const result = await new Campaign({ options, authority, users, auditor, verdicts, notice }).run(made);
    const hasPassed = result.problems.length === 0;
    for (const problem of result.problems) complain(problem);
    if (!hasPassed) complain(`the state is kept in ${authority.folder}; ${authority.lastLogLines()}`);
    end(!hasPassed);
    process.stdout.write(options.json ? `${JSON.stringify(result.counts)}\n` : summary(result, options.seed));
    return hasPassed ? 0 : 1;
  } catch (error) {
    complain(error instanceof Error ? (error.stack ?? error.message) : String(error));
    complain(`the state is kept in ${authority.folder}; ${authority.lastLogLines()}`);
    end(true);
    return 1;
  }
}
