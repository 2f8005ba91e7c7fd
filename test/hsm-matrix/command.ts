import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { statePaths } from '../../src/config/config.ts';
import { callAdmin } from '../../src/cli/admin-client.ts';
import { readAuthority } from '../../src/signer/authority-file.ts';
import { policyIssuer } from '../../src/signer/policy-issuer.ts';
import { adminPaths } from '../../src/wire/admin.ts';
import { parseJoinFile } from '../../src/wire/join-file.ts';
import { Authority, type Made, type Ready } from '../kills/authority.ts';
import { Random } from '../kills/random.ts';
import { percentile } from '../kills/result.ts';
import { Matrix } from './campaign.ts';
import { allCases, type Case, nameOf, sampled } from './cases.ts';
import { Control } from './control.ts';
import { Enroller, makeKeys } from './enroller.ts';
import { crashes, type Figure, flippedBits, hang, sessionLoss } from './figures.ts';
import { type Testimony, testimony } from './witness.ts';

/** What `npm run test:hsm-matrix` takes. */
export interface MatrixOptions {
  sample: number | undefined;
  only: string | undefined;
  seed: number;
  json: boolean;
}

const trustDomain = 'matrix.test';
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
  const authority = new Authority(dist, { simulated: true });
  const end = (keepsFolder: boolean): void => {
    authority.endAll();
    if (!keepsFolder) authority.remove();
  };
  endWithThisProcess(end, cases.length, complain);
  try {
    const result = await run({ options, cases, authority, complain });
    const hasPassed = result.problems === 0;
    if (!hasPassed)
      complain(`the state is kept in ${authority.folder}; its end: ${authority.lastLogLines()}`);
    end(!hasPassed);
    process.stdout.write(options.json ? `${JSON.stringify(result)}\n` : summary(result, options.seed));
    return hasPassed ? 0 : 1;
  } catch (error) {
    complain(error instanceof Error ? (error.stack ?? error.message) : String(error));
    complain(`the state is kept in ${authority.folder}; its end: ${authority.lastLogLines()}`);
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
  signatures: Omit<Testimony, 'orphans'> | undefined;
  orphans: number;
  /** Everything that is wrong, together. */
  problems: number;
}

interface Run {
  options: MatrixOptions;
  cases: readonly Case[];
  authority: Authority;
  complain: (line: string) => void;
}

async function run({ options, cases, authority, complain }: Run): Promise<Result> {
  const made = await authority.init(trustDomain);
  const { control: controlFile, log } = authority.simulator;
  const control = new Control(controlFile);
  const ready = await authority.start().ready;
  makeKeys(400);
  const enroller = new Enroller(await joinFile(authority));
  const matrix = new Matrix({ authority, control, enroller });
  const slowest: number[] = [];
  const back: number[] = [];
  let [failed, enrolled, problems] = [0, 0, 0];
  for (const [position, one] of cases.entries()) {
    const result = await matrix.live(one);
    makeKeys(200);
    enrolled += result.enrolled;
    slowest.push(result.slowestMs);
    back.push(result.backMs);
    problems += result.problems.length;
    if (result.problems.length > 0) failed += 1;
    for (const problem of new Set(result.problems)) complain(`${nameOf(one)}: ${problem}`);
    if (!options.json)
      process.stderr.write(
        `${position + 1}/${cases.length} ${nameOf(one)}: ${Math.round(result.backMs)} ms\n`,
      );
  }
  const figures = options.only === undefined ? await measure(made, ready, control, enroller) : [];
  for (const figure of figures) problems += complaintsOf(figure, complain);
  const code = await authority.stop();
  if (code !== 0)
    complain(`the server did not stop when asked (exit ${code}): it was not the one that began`);
  const { orphans, ...signatures } = testimony(log, authority.database, publicKeysOf(authority));
  for (const orphan of orphans) complain(`signed, and in no log: ${orphan}`);
  return {
    cases: cases.length,
    failed,
    enrolled,
    slowestRequestMs: Math.round(Math.max(...slowest)),
    backMsP99: Math.round(percentile(back, 0.99)),
    figures: Object.fromEntries(figures.map(({ name, value }) => [name, rounded(value)])),
    signatures,
    orphans: orphans.length,
    problems: problems + orphans.length + (code === 0 ? 0 : 1),
  };
}

async function joinFile({ adminSocket }: Authority) {
  const asked = { spiffeId: `spiffe://${trustDomain}/workload`, uses: 10_000, ttlSeconds: 24 * 3600 };
  const { joinFile: text } = await callAdmin<{ joinFile: string }>(
    adminSocket,
    'POST',
    adminPaths.tokens,
    asked,
  );
  return parseJoinFile(text);
}

async function measure(made: Made, ready: Ready, control: Control, enroller: Enroller): Promise<Figure[]> {
  const parts = { ...made, operationsUrl: ready.operationsUrl, control, enroller };
  const figures: Figure[] = [];
  for (const figure of [sessionLoss, crashes, flippedBits, hang]) {
    makeKeys(600);
    figures.push(await figure(parts));
  }
  return figures;
}

function complaintsOf({ name, value, limit, problems }: Figure, complain: (line: string) => void): number {
  for (const problem of new Set(problems)) complain(`${name}: ${problem}`);
  if (!(value <= limit)) complain(`${name} is ${rounded(value)}, ${limit} is the limit`);
  return problems.length + (value <= limit ? 0 : 1);
}

/** Every key that the token's log may name. */
function publicKeysOf(authority: Authority): Buffer[] {
  const { logKey, issuers } = readAuthority(statePaths(authority.state).authority);
  return [logKey.publicKeySpki, ...issuers.map((issuer) => policyIssuer(issuer).spki)];
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

/** Signals, a crash of this process and a hang leave nothing running either. */
function endWithThisProcess(
  end: (keepsFolder: boolean) => void,
  cases: number,
  complain: (line: string) => void,
): void {
  const codes = { SIGTERM: 143, SIGINT: 130, SIGHUP: 129 } as const;
  for (const [signal, code] of Object.entries(codes))
    process.once(signal, () => {
      end(false);
      process.exit(code);
    });
  process.once('uncaughtException', (error: Error) => {
    complain(error.stack ?? error.message);
    end(true);
    process.exit(1);
  });
  const hangs = (): void => {
    complain('the matrix hangs and is given up');
    end(true);
    process.exit(1);
  };
  setTimeout(hangs, watchdogMs.base + cases * watchdogMs.perCase).unref();
}
