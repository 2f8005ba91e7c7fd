import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { callAdmin } from '../../src/cli/admin-client.ts';
import { adminPaths } from '../../src/wire/admin.ts';
import { kill, processesOf } from './processes.ts';

const root = resolve(import.meta.dirname, '../..');
const execute = promisify(execFile);
const stopMs = 12_000;
const verbMs = 120_000;

/** What `vouch init` says of a new authority. */
export interface Made {
  rootPin: string;
  issuerKeyId: string;
  enrollmentUrl: string;
  publicationUrl: string;
}

/** A server that is ready. */
export interface Ready {
  signerPid: number | undefined;
  operationsUrl: string;
  /** By `performance.now()`. */
  atMs: number;
}

/** A server under way: from its start to its ready line or its end. */
export interface Start {
  child: ChildProcess;
  /** Rejects where the process ends before. */
  ready: Promise<Ready>;
  isReady: boolean;
}

/** What scripts/vouch gives Node and the C library. */
const asLauncher = ['--max-semi-space-size=16'];
const launcherEnv = { MALLOC_ARENA_MAX: '2' };

/** One authority in a temporary folder, with the tokens, the server's process and its verbs. */
export class Authority {
  readonly folder: string;
  readonly #dist: string;
  readonly #isSimulated: boolean;
  readonly #startMs: number;
  #server: ChildProcess | undefined;

  /**
   * `dist`: the build to run. `simulated`: the issuer's token stands behind the simulator and misbehaves on demand.
   * `startMs`: how long a start may take.
   */
  constructor(dist: string, { simulated = false, startMs = 30_000 } = {}) {
    this.#startMs = startMs;
    this.#isSimulated = simulated;
    this.folder = mkdtempSync(join(tmpdir(), 'vouch-kills-'));
    this.#dist = dist;
  }

  get state(): string {
    return join(this.folder, 'state');
  }

  get config(): string {
    return join(this.state, 'vouch.yaml');
  }

  get database(): string {
    return join(this.state, 'vouch.db');
  }

  get adminSocket(): string {
    return join(this.state, 'admin.sock');
  }

  /** Where servers and signers write what is wrong. */
  get logFile(): string {
    return join(this.folder, 'server.log');
  }

  /** The simulator's control file and its log of signatures. */
  get simulator(): { control: string; log: string } {
    const dir = join(this.folder, 'issuer');
    return { control: join(dir, 'control'), log: join(dir, 'signatures.jsonl') };
  }

  async init(trustDomain: string): Promise<Made> {
    const simulated = this.#isSimulated ? ['--shim'] : [];
    const [issuer, rootToken] = [await this.#newToken('issuer', ...simulated), await this.#newToken('root')];
    const tokens = ['--hsm-file', issuer, '--root-hsm-file', rootToken];
    const listens = ['enrollment', 'publication', 'operations'].flatMap((name) => [
      `--${name}-listen`,
      '127.0.0.1:0',
    ]);
    const made = await this.verb<Made>([
      'init',
      '--state',
      this.state,
      '--trust-domain',
      trustDomain,
      ...tokens,
      '--dev',
      ...listens,
    ]);
    // Everybody comes from one address here, and the thieves among them are refused often.
    const settings = readFileSync(this.config, 'utf8')
      .replace(/^enrollment:\n/m, 'enrollment:\n  failuresPerMinute: 100000\n')
      .concat('log:\n  level: warn\n');
    writeFileSync(this.config, settings);
    return made;
  }

  /** Runs a verb of the command line with `--json`. Rejects where it does not exit 0, with what it printed. */
  async verb<Result>(argv: readonly string[]): Promise<Result> {
    const options = { timeout: verbMs, maxBuffer: 64 * 1024 * 1024 };
    const { stdout } = await execute(process.execPath, [this.#program, ...argv, '--json'], options);
    return JSON.parse(stdout) as Result;
  }

  /** Starts the server on the state as it is. */
  start(): Start {
    const log = openSync(this.logFile, 'a');
    const child = spawn(process.execPath, [...asLauncher, this.#program, 'server', '--config', this.config], {
      stdio: ['ignore', 'pipe', log],
      env: { ...process.env, ...launcherEnv },
    });
    closeSync(log);
    this.#server = child;
    const start = { child, ready: readyOf(child, this.#startMs), isReady: false };
    // Whoever kills it while it starts does not wait for it.
    start.ready.then(
      () => (start.isReady = true),
      () => undefined,
    );
    return start;
  }

  /** Waits until the server says that its signer signs, one of another pid. Rejects after `timeoutMs`. */
  async signerOtherThan(pid: number | undefined, timeoutMs: number): Promise<number> {
    const deadline = performance.now() + timeoutMs;
    while (performance.now() < deadline) {
      const status = await this.status().catch(() => undefined);
      const signer = status?.signer;
      if (signer?.state === 'usable' && signer.pid !== null && signer.pid !== pid) return signer.pid;
      await sleep(10);
    }
    throw new Error(`no usable signer within ${timeoutMs} ms`);
  }

  status(): Promise<{ signer: { state: string; pid: number | null }; problems: string[] }> {
    return callAdmin(this.adminSocket, 'GET', adminPaths.status);
  }

  /** Asks the server to stop. Resolves with its exit code, null where it had to be killed. */
  async stop(): Promise<number | null> {
    const server = this.#server;
    if (server === undefined || server.exitCode !== null) return server?.exitCode ?? null;
    const exited = exitOf(server);
    server.kill('SIGTERM');
    const timer = setTimeout(() => server.kill('SIGKILL'), stopMs);
    return exited.finally(() => clearTimeout(timer));
  }

  /** Ends every process that is left, at once. Servers first: they would start another signer. */
  endAll(): void {
    this.#server?.kill('SIGKILL');
    for (const role of ['server', 'signer', 'other'] as const)
      for (const found of processesOf(this.folder)) if (found.role === role) kill(found.pid);
  }

  /** The last that servers and signers wrote. */
  lastLogLines(): string {
    return existsSync(this.logFile)
      ? readFileSync(this.logFile, 'utf8').trimEnd().split('\n').slice(-20).join('\n')
      : '';
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  get #program(): string {
    return join(this.#dist, 'vouch.js');
  }

  async #newToken(label: string, ...more: string[]): Promise<string> {
    const argv = ['--dir', join(this.folder, label), '--label', label, '--json', ...more];
    const made = await execute(join(root, 'hsm-sim/new-token'), argv);
    const file = join(this.folder, `${label}.json`);
    writeFileSync(file, made.stdout);
    return file;
  }
}

/** Resolves with the exit code, null for a signal. */
export function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode);
  return new Promise((done) => child.once('exit', (code) => done(code)));
}

function readyOf(child: ChildProcess, startMs: number): Promise<Ready> {
  const { promise, resolve: ready, reject } = Promise.withResolvers<Ready>();
  const { stdout } = child;
  if (stdout === null) throw new Error('the server has no stdout');
  createInterface({ input: stdout }).once('line', (line) => {
    const { event, signerPid, operationsUrl } = JSON.parse(line) as {
      event: string;
      signerPid: number | null;
      operationsUrl: string;
    };
    const atMs = performance.now();
    if (event === 'ready') ready({ signerPid: signerPid ?? undefined, operationsUrl, atMs });
    else reject(new Error(`the server's first line is no ready line: ${line}`));
  });
  const timer = setTimeout(() => reject(new Error(`the server is not ready after ${startMs} ms`)), startMs);
  child.once('exit', (code, signal) => {
    clearTimeout(timer);
    reject(new Error(`the server ended before it was ready (${signal ?? `exit ${code}`})`));
  });
  return promise.finally(() => clearTimeout(timer));
}
