import { existsSync, realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Arguments, parseArguments, parseSeconds } from './agent/arguments.ts';
import type { CrlPolicy } from './agent/crls.ts';
import { type AgentVerb, agentUsage, verbHelp, verbSpecs, verbUsage } from './agent/help.ts';
import { workloadKeyTypes } from './agent/key-type.ts';
import type { AgentParts, Delivery } from './agent/obtain.ts';
import { type Output, processOutput, reportFailure } from './agent/report.ts';
import { systemClock } from './core/clock.ts';
import { VouchError } from './core/errors.ts';
import type { KeyType } from './x509/public-key.ts';
import { nodeProblem } from './node-version.ts';
import { loadProgram } from './program.ts';

type Run = (args: Arguments, output: Output) => Promise<number>;

const verbs: Readonly<Record<AgentVerb, Run>> = {
  enroll: runEnroll,
  renew: runRenew,
  exec: runExec,
  'bundle fetch': runBundleFetch,
};

/**
 * Runs `enroll`, `renew`, `exec`, `bundle fetch` or `agent`; `argv` begins with the verb. Resolves to the exit code of the
 * contract: 0, 1, 2, 75, 78, or for exec the workload's own.
 */
export async function runAgentVerb(argv: string[], output: Output = processOutput): Promise<number> {
  if (argv[0] === 'agent') return runDaemonVerb(argv, output);
  const verb = verbOf(argv);
  const end = argv.indexOf('--');
  const flags = argv.slice(0, end === -1 ? argv.length : end);
  const json = flags.includes('--json');
  try {
    if (verb === undefined) {
      const why = noSuchVerb();
      if (!flags.includes('--help')) throw why;
      output.stdout(`${why.detail}\n${agentUsage}`);
      return 0;
    }
    const args = parseArguments(argv.slice(verb.split(' ').length), verbSpecs[verb]);
    if (!args.help) return await verbs[verb](args, output);
    output.stdout(verbHelp[verb]);
    return 0;
  } catch (error) {
    const code = reportFailure(error, json, output);
    if (code === 2 && !json) output.stderr(verb === undefined ? agentUsage : `usage: ${verbUsage[verb]}\n`);
    return code;
  }
}

/** The daemon is a bundle of its own: what runs beside one workload stays small. */
async function runDaemonVerb(argv: string[], output: Output): Promise<number> {
  const bundle = fileURLToPath(new URL('./vouch-agentd.cjs', import.meta.url));
  if (existsSync(bundle))
    return loadProgram<{ runDaemonVerb: typeof runAgentVerb }>(bundle).runDaemonVerb(argv, output);
  const missing = `${bundle} is not there: the daemon is a file of its own, beside this one`;
  return reportFailure(new VouchError('config-invalid', missing), argv.includes('--json'), output);
}

function noSuchVerb(): VouchError {
  const words = [...Object.keys(verbSpecs), 'agent'];
  return new VouchError(
    'usage-invalid',
    `the verbs here are ${words.map((verb) => `\`vouch ${verb}\``).join(', ')}`,
  );
}

function verbOf(argv: readonly string[]): AgentVerb | undefined {
  const [first = '', second = ''] = argv;
  return (Object.keys(verbSpecs) as AgentVerb[]).find(
    (verb) => verb === first || verb === `${first} ${second}`,
  );
}

async function runEnroll(args: Arguments, output: Output): Promise<number> {
  const joinFile = args.required('join-file');
  const dir = resolve(args.required('out'));
  const options = { keyType: keyTypeOf(args), crlPolicy: crlPolicyOf(args), timeoutMs: timeoutOf(args, 60) };
  const [{ enroll }, { readJoinFile }] = await Promise.all([
    import('./agent/enroll.ts'),
    import('./agent/secret-file.ts'),
  ]);
  const join = readJoinFile(joinFile);
  printDelivery(await errand(args, output, (parts) => enroll(dir, join, options, parts)), args, output);
  return 0;
}

async function runRenew(args: Arguments, output: Output): Promise<number> {
  const dir = resolve(args.required('dir'));
  const options = { keyType: keyTypeOf(args), crlPolicy: crlPolicyOf(args), timeoutMs: timeoutOf(args, 60) };
  const { renew } = await import('./agent/renew.ts');
  printDelivery(await errand(args, output, (parts) => renew(dir, options, parts)), args, output);
  return 0;
}

async function runBundleFetch(args: Arguments, output: Output): Promise<number> {
  const options = {
    url: args.required('url'),
    pin: args.required('pin'),
    out: resolve(args.required('out')),
    timeoutMs: timeoutOf(args, 60),
  };
  const { fetchBundle } = await import('./agent/bundle.ts');
  const fetched = await errand(args, output, (parts) => fetchBundle(options, parts));
  output.stdout(
    args.has('json')
      ? `${JSON.stringify(fetched)}\n`
      : `trust bundle of ${fetched.trustDomain}, sequence ${fetched.sequence}, ${fetched.roots} root(s), in ${fetched.out}\n`,
  );
  return 0;
}

async function runExec(args: Arguments, output: Output): Promise<number> {
  const { becomeChildOfInit } = await import('./agent/deliver/init.ts');
  becomeChildOfInit(output.stderr);
  const [{ execWorkload }, { parseHook }] = await Promise.all([
    import('./agent/deliver/exec.ts'),
    import('./agent/deliver/hook.ts'),
  ]);
  const refresh = args.value('crl-refresh');
  return execWorkload(
    {
      joinFile: args.required('join-file'),
      dir: resolve(args.value('out') ?? '/run/vouch'),
      command: args.command,
      hook: parseHook(args.value('on-change')),
      onRevoked: choiceOf(args, 'on-revoked', ['keep', 'stop']),
      keyType: keyTypeOf(args),
      crlPolicy: crlPolicyOf(args),
      crlRefreshMs:
        refresh === undefined ? 1000 : parseSeconds('crl-refresh', refresh, { min: 0.1, max: 86_400 }) * 1000,
      timeoutMs: timeoutOf(args, 300),
    },
    { clock: systemClock, notice: noticeTo(output) },
  );
}

/**
 * Runs an errand with its parts. For programs (`--json`) stderr holds nothing but the problem when it fails, whose detail
 * names attempts and clock skew; what else was noticed is said after a success.
 */
async function errand<T>(
  args: Arguments,
  output: Output,
  run: (parts: AgentParts) => Promise<T>,
): Promise<T> {
  const say = noticeTo(output);
  const held: string[] = [];
  const result = await run({
    clock: systemClock,
    signal: new AbortController().signal,
    notice: args.has('json') ? (line) => void held.push(line) : say,
    exclusively: (work) => work(),
  });
  held.forEach(say);
  return result;
}

function noticeTo(output: Output): (line: string) => void {
  return (line) => output.stderr(`vouch: ${line}\n`);
}

function crlPolicyOf(args: Arguments): CrlPolicy {
  return choiceOf(args, 'crl', ['require', 'allow-stale']);
}

/** One of `choices`, the first by default. */
function choiceOf<T extends string>(args: Arguments, flag: string, choices: readonly [T, ...T[]]): T {
  const text = args.value(flag) ?? choices[0];
  const found = choices.find((choice) => choice === text);
  if (found === undefined)
    throw new VouchError('usage-invalid', `--${flag} takes one of ${choices.join(', ')}`);
  return found;
}

/** Undefined where the flag is not given: a renewal keeps the type that there is. */
function keyTypeOf(args: Arguments): KeyType | undefined {
  return args.value('key-type') === undefined ? undefined : choiceOf(args, 'key-type', workloadKeyTypes);
}

function timeoutOf(args: Arguments, defaultSeconds: number): number {
  const text = args.value('timeout');
  return (
    (text === undefined ? defaultSeconds : parseSeconds('timeout', text, { min: 1, max: 86_400 })) * 1000
  );
}

function printDelivery(delivery: Delivery, args: Arguments, output: Output): void {
  if (args.has('json')) output.stdout(`${JSON.stringify(delivery)}\n`);
  else
    output.stdout(
      `${delivery.spiffeId}, serial ${delivery.serial}, valid until ${delivery.notAfter}, in ${delivery.dir}/current\n`,
    );
}

/** The agent's one file as a program of its own. */
async function main(argv: string[]): Promise<number> {
  const problem = nodeProblem();
  if (problem === undefined) return runAgentVerb(argv);
  processOutput.stderr(problem);
  return 78;
}

/** True where this file itself was started, under whatever name, not where another program loaded it. */
function isStarted(script: string | undefined): boolean {
  try {
    return script !== undefined && realpathSync(script) === fileURLToPath(import.meta.url);
  } catch {
    return false;
  }
}

// At once: what a verb leaves pending does not keep a container from ending with its workload.
if (isStarted(process.argv[1])) void main(process.argv.slice(2)).then((code) => process.exit(code));
