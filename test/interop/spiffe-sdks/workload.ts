import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Authority } from '../../support/daemon.ts';
import { type Json, Running, start } from '../../support/running.ts';
import { type Account, goSdk, pythonSdk, type Sdk } from './sdk.ts';

/** What a stream of X.509-SVIDs was told. */
export interface State {
  svids: { id: string; hint?: string; serial: string }[];
  /** How many authorities each trust domain has. */
  bundles: Record<string, number>;
}

/** A workload and what it has said so far. */
export class Workload extends Running {
  /** `command` as `account`; `env` says where the agent is. */
  static start(command: readonly string[], { wrapper }: Account, env: NodeJS.ProcessEnv): Workload {
    return new Workload(start(command, { wrapper, env }).child);
  }

  get lines(): Json[] {
    return this.stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Json);
  }

  get states(): State[] {
    return this.lines.filter((line): line is Json & State => 'svids' in line);
  }

  /** SPIFFE IDs that it was told last; undefined before the first. */
  get ids(): string[] | undefined {
    return this.states.at(-1)?.svids.map(({ id }) => id);
  }

  /** Serial of the first certificate that it was told last. */
  get serial(): string | undefined {
    return this.states.at(-1)?.svids[0]?.serial;
  }

  get errors(): unknown[] {
    return this.lines.flatMap(({ error }) => error ?? []);
  }
}

/** From when an operator says it to when a workload sees it, in milliseconds. */
export async function took(
  said: () => Promise<unknown>,
  workload: Workload,
  isSeen: (workload: Workload) => boolean,
): Promise<number> {
  const started = performance.now();
  await Promise.all([said(), workload.until(() => isSeen(workload))]);
  return performance.now() - started;
}

/** The SDKs of both languages, their programs where every user finds them. */
export async function bothSdks(authority: Authority): Promise<{ go: Sdk; python: Sdk }> {
  const programs = join(authority.folder, 'programs');
  chmodSync(authority.folder, 0o711);
  mkdirSync(programs);
  chmodSync(programs, 0o755);
  const python = pythonSdk(programs);
  return { python, go: await goSdk(programs) };
}
