import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { endWithThisProcess } from '../support/campaign-process.ts';
import { Random } from '../kills/random.ts';
import { percentile } from '../kills/result.ts';
import type { CaseResult } from './campaign.ts';
import { allCases, type Case, nameOf, sampled } from './cases.ts';
import type { Figure } from './figures.ts';
import { Lane } from './lane.ts';
import type { Testimony } from './witness.ts';

/** What `npm run test:hsm-matrix` takes. */
export interface MatrixOptions {
  sample: number | undefined;
  only: string | undefined;
  seed: number;
  json: boolean;
}

/** Authorities that live through cases side by side: most of a case is waiting. */
const lanesMax = 2;
/** Past that something hangs. */
const watchdogMs = { base: 240_000, perCase: 30_000 };

/** Runs the matrix from nothing, prints its result and returns the exit code. Whatever happens, no process stays. */
export async function runMatrix(options: MatrixOptions): Promise<number> {
  const dist = resolve(process.env.VOUCH_DIST ?? join(import.meta.dirname, '../../dist'));
  const complain = (line: string): void => void process.stderr.write(`seed ${options.seed}: ${line}\n`);
  if (!existsSync(join(dist, 'vouch.js'))) {
    complain(`${dist} holds no build; run scripts/setup first`);
    return 1;
  }
  const cases = chosen(options);
  if (cases.length === 0) {
    complain('no case has that in its name');
    return 2;
  }
  const lanes: [Lane, ...Lane[]] = [
    new Lane(dist),
    ...Array.from({ length: lanesMax - 1 }, () => new Lane(dist)),
  ];
  const end = (keepsFolders: boolean): void => {
    for (const { authority } of lanes) {
      authority.endAll();
      if (!keepsFolders) authority.remove();
    }
  };
  const kept = (): void => {
    for (const { authority } of lanes)
      complain(`a state is kept in ${authority.folder}; its log ends: ${authority.lastLogLines()}`);
  };
  const afterMs = watchdogMs.base + cases.length * watchdogMs.perCase;
  endWithThisProcess({ end, complain, afterMs });
  try {
    const result = await run({ options, cases, lanes, complain });
    const hasPassed = result.problems === 0;
    if (!hasPassed) kept();
    end(!hasPassed);
    process.stdout.write(options.json ? `${JSON.stringify(result)}\n` : summary(result, options.seed));
    return hasPassed ? 0 : 1;
  } catch (error) {
    complain(error instanceof Error ? (error.stack ?? error.message) : String(error));
    kept();
    end(true);
    return 1;
  }
}

function chosen({ sample, only, seed }: MatrixOptions): Case[] {
  const random = new Random(seed, 0);
  const cases = allCases().filter((one) => only === undefined || nameOf(one).includes(only));
  return sample === undefined ? cases : sampled(cases, sample, () => random.unit());
}

interface Result {
  cases: number;
  failed: number;
  enrolled: number;
  slowestRequestMs: number;
  backMsP99: number;
  figures: Record<string, number>;
  signatures: Omit<Testimony, 'orphans'>;
  orphans: number;
  /** Everything that is wrong, together. */
  problems: number;
}

interface Run {
  options: MatrixOptions;
  cases: readonly Case[];
  lanes: readonly [Lane, ...Lane[]];
  complain: (line: string) => void;
}

async function run({ options, cases, lanes, complain }: Run): Promise<Result> {
  for (const lane of lanes) await lane.begin();
  const left = [...cases];
  let done = 0;
  const told = (one: Case, { problems, backMs }: CaseResult): void => {
    done += 1;
    for (const problem of new Set(problems)) complain(`${nameOf(one)}: ${problem}`);
    if (!options.json)
      process.stderr.write(`${done}/${cases.length} ${nameOf(one)}: ${Math.round(backMs)} ms\n`);
  };
  await Promise.all(lanes.map((lane) => lane.live(left, told)));
  const [first, ...others] = lanes;
  const testimonies: Testimony[] = [];
  for (const lane of others) testimonies.push(await lane.end(complain));
  const figures = options.only === undefined ? await first.measure() : [];
  testimonies.push(await first.end(complain));
  let problems = 0;
  for (const figure of figures) problems += complaintsOf(figure, complain);
  const sum = (of: (lane: Lane) => number): number => lanes.reduce((total, lane) => total + of(lane), 0);
  const count = (what: Exclude<keyof Testimony, 'orphans'>): number =>
    testimonies.reduce((total, one) => total + one[what], 0);
  const orphans = testimonies.flatMap((one) => one.orphans);
  for (const orphan of orphans) complain(`signed, and in no log: ${orphan}`);
  return {
    cases: cases.length,
    failed: sum(({ tally }) => tally.failed),
    enrolled: sum(({ tally }) => tally.enrolled),
    slowestRequestMs: Math.round(Math.max(...lanes.flatMap(({ tally }) => tally.slowestMs))),
    backMsP99: Math.round(
      percentile(
        lanes.flatMap(({ tally }) => tally.backMs),
        0.99,
      ),
    ),
    figures: Object.fromEntries(figures.map(({ name, value }) => [name, rounded(value)])),
    signatures: {
      certificates: count('certificates'),
      crls: count('crls'),
      checkpoints: count('checkpoints'),
      proofs: count('proofs'),
    },
    orphans: orphans.length,
    problems: problems + orphans.length + sum(({ tally }) => tally.problems),
  };
}

function complaintsOf({ name, value, limit, problems }: Figure, complain: (line: string) => void): number {
  for (const problem of new Set(problems)) complain(`${name}: ${problem}`);
  if (!(value <= limit)) complain(`${name} is ${rounded(value)}, ${limit} is the limit`);
  return problems.length + (value <= limit ? 0 : 1);
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

function summary(result: Result, seed: number): string {
  const { cases, failed, enrolled, slowestRequestMs, backMsP99, figures, signatures, orphans, problems } =
    result;
  const measured = Object.entries(figures).map(([name, value]) => `${name} ${value}`);
  return [
    `${cases} cases (seed ${seed}), ${failed} failed: ${enrolled} enrollments, the slowest request ${slowestRequestMs} ms`,
    `usable ${backMsP99} ms (p99) after the token was well again`,
    measured.join(', '),
    `signatures by the token's own log: ${JSON.stringify(signatures)}, orphans ${orphans}`,
    problems === 0 ? 'passed' : `FAILED: ${problems} problems, see above`,
    '',
  ]
    .filter((line) => line !== '')
    .join('\n')
    .concat('\n');
}
