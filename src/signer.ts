import { rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { type Arguments, parseArguments, type VerbSpec } from './agent/arguments.ts';
import { systemClock } from './core/clock.ts';
import { defaultConfigFile, loadConfig } from './config/config.ts';
import { asVouchError, VouchError } from './core/errors.ts';
import { problemOf } from './core/problem.ts';
import { coreDumpsProblem } from './native/limits.ts';
import { listenForClients } from './signer/listener.ts';
import { openPool } from './signer/pkcs11/pool.ts';
import { decodeRequest } from './signer/protocol.ts';
import { nextAddress } from './signer/replicas.ts';
import {
  endProcess,
  openRuntime,
  type SignerConfig,
  signerFolder,
  type SignerRuntime,
} from './signer/runtime.ts';
import { keyIdOf } from './x509/public-key.ts';
import { SignerService } from './signer/service.ts';
import { Session } from './signer/session.ts';
import { stderrLog } from './signer/signer-log.ts';

/** A PKCS#11 call that takes longer than this hangs; below the deadline of whoever waits for it. */
const defaultHangMs = 2000;
/** How long the end of the process waits for its marks to be written. */
const stopMs = 2000;
/** How long a signer that cannot start waits for somebody to tell. */
const tellMs = 1000;
/** The socket that a server gives the signer it spawns. */
const inheritedFd = 3;

/** What it understands; `--ceremony` is for `vouch init`. */
const spec: VerbSpec = {
  values: { listen: { required: false } },
  switches: ['group-access', 'standby', 'ceremony', 'make-ocsp-key', 'make-jwt-key', 'replace', 'json'],
  command: false,
};

const usage = `usage: vouch signer [--config FILE] --listen SOCKET [--group-access] [--standby] [--json]
       vouch signer [--config FILE] --make-ocsp-key | --make-jwt-key [--replace] [--standby] [--json]`;

const help = `${usage}

Runs the signer, the only process that opens the token and knows its PIN, as a user of its own: the server, whose
configuration names the socket under signer.socket, then cannot read either. Without this \`vouch server\` starts one.

  --config FILE    configuration file (default: ${defaultConfigFile})
  --listen SOCKET  unix socket to serve one server on; only this user may open it
  --standby        the signer of the standby token, for standby.signer.socket
  --make-ocsp-key  make the key that answers OCSP in the token, once, and end; a running signer must be started again
  --make-jwt-key   the same for the key that signs JWT-SVIDs, which \`vouch init\` makes
  --replace        another one, where the first is not to be trusted any more
  --group-access   its group may, too: for a server of another user
  --json           why it could not start as problem+json, the last line on stderr

Exit: 0 told to end, 2 usage, 75 try again later, 76 state and marks contradict each other, 77 the token refused the
PIN, 78 configuration.
`;

/**
 * `vouch signer --config FILE [--listen SOCK [--group-access]]`, and `vouch signer --ceremony` for `vouch init`: the only process that
 * loads the PKCS#11 module and reads a PIN. Without `--listen` it serves descriptor 3 and ends with it. `readConfig`
 * reads the configuration; `workerUrl` is for tests. Resolves to the exit code; a process that serves ends by itself.
 */
export async function runSigner(
  argv: readonly string[],
  readConfig: (file: string, isStandby: boolean) => SignerConfig,
  workerUrl?: URL,
): Promise<number> {
  try {
    await serve(parseArguments(argv, spec), readConfig, workerUrl);
    return 0;
  } catch (error) {
    const failure = asVouchError(error);
    const json = argv.includes('--json');
    process.stderr.write(
      json ? `${JSON.stringify(problemOf(failure, 'operator'))}\n` : `vouch: ${failure.detail}\n`,
    );
    if (failure.code !== 'usage-invalid') endProcess({ error: failure, hangs: false });
    if (!json) process.stderr.write(`${usage}\n`);
    return 2;
  }
}

/** `vouch signer …` as the executable runs it, with the server's configuration file. Resolves to the exit code. */
export function runSignerVerb(argv: string[]): Promise<number> {
  return runSigner(argv.slice(1), (file, isStandby) => {
    const { state: stateDir, hsm, signer, standby } = loadConfig(file);
    // Below the server's deadline, so that a new process can still serve the call.
    const hangMs = Math.min(defaultHangMs, (signer.deadline * 2000) / 3);
    const common = { stateDir, workers: signer.sessions, hangMs };
    if (!isStandby) return { ...common, hsm };
    if (!standby)
      throw new VouchError('config-invalid', `${file} names no standby token, which --standby is for`);
    return { ...common, folder: 'standby-signer', hsm: standby.hsm };
  });
}

async function serve(
  args: Arguments,
  readConfig: (file: string, isStandby: boolean) => SignerConfig,
  workerUrl: URL | undefined,
): Promise<void> {
  if (args.help) {
    process.stdout.write(help);
    return;
  }
  if (args.has('ceremony')) {
    const { runCeremonyChild } = await import('./signer/ceremony-child.ts');
    await runCeremonyChild(new Socket({ fd: inheritedFd }));
    return;
  }
  const settings = readConfig(args.value('config') ?? defaultConfigFile, args.has('standby'));
  for (const which of ['make-ocsp-key', 'make-jwt-key'] as const)
    if (args.has(which)) {
      process.stdout.write(`${await madeKey(which, settings, args)}\n`);
      return;
    }
  const address = nextAddress(settings.hsm, join(signerFolder(settings), 'next-address'));
  // A module reads its own environment; in `--listen` mode nobody else has set it.
  for (const [name, value] of Object.entries(address.hsm.environment)) process.env[name] = value;
  const signer = new SignerProcess({ ...settings, hsm: address.hsm }, address.opened, workerUrl);
  const listen = args.value('listen');
  if (listen === undefined) signer.serveInherited();
  else await signer.serveSocket({ path: listen, groupAccess: args.has('group-access') });
}

/** Makes a key and says so. */
async function madeKey(
  which: 'make-ocsp-key' | 'make-jwt-key',
  settings: SignerConfig,
  args: Arguments,
): Promise<string> {
  const { makeOwnKey, ownKeys } = await import('./signer/own-key.ts');
  const { key, made } = await makeOwnKey(settings, which, args.has('replace'));
  const keyId = keyIdOf(key.publicKeySpki);
  if (args.has('json')) return JSON.stringify({ keyId, made });
  const how = made ? 'made' : 'there is already';
  return `${how} the key ${keyId}, which ${ownKeys[which].does}; start the signer again`;
}

/** The process as a whole: one token, one set of marks, one client at a time. */
class SignerProcess {
  readonly #runtime: Promise<SignerRuntime>;
  #session: Session | undefined;

  /** `opened` is called when the token is open. */
  constructor(config: SignerConfig, opened: () => void, workerUrl: URL | undefined) {
    const { workers, startMs, hangMs = defaultHangMs } = config;
    this.#runtime = openRuntime({
      config,
      openHsm: (request) => openPool({ ...request, log: stderrLog, hangMs, startMs, workers, workerUrl }),
      clock: systemClock,
      log: stderrLog,
      onFault: (fault) => this.#fail(fault),
    });
    this.#runtime.then(opened, () => undefined);
  }

  /** Serves the server that spawned this process; its signals are for the server, which ends this by the pipe. */
  serveInherited(): void {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
    const session = this.#serve(new Socket({ fd: inheritedFd }), () => session.close());
    void session.ended.then(() => this.#end());
    this.#runtime.catch((error: unknown) => {
      const failure = asVouchError(error);
      stderrLog('error', 'the signer cannot start', { code: failure.code, problem: failure.detail });
      setTimeout(() => endProcess({ error: failure, hangs: false }), tellMs);
    });
  }

  /** Serves clients of a unix socket, one at a time, until it gets a signal. Rejects where it cannot. */
  async serveSocket(socket: { path: string; groupAccess: boolean }): Promise<void> {
    await this.#runtime;
    const coreDumps = coreDumpsProblem();
    if (coreDumps !== undefined) stderrLog('warn', coreDumps);
    await listenForClients(socket, (stream) => this.#serve(stream, () => undefined), systemClock);
    process.once('exit', () => rmSync(socket.path, { force: true }));
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => this.#end());
    stderrLog('info', 'the signer listens', { socket: socket.path });
  }

  /** Every client takes the tree up anew; the marks, which this process keeps, go on from the last one. */
  #serve(stream: Socket, onStopped: () => void): Session {
    const service = this.#runtime.then((runtime) => new SignerService(runtime, systemClock));
    service.catch(() => undefined);
    // Requests wait for the same promise, so they are still handled in the order in which they came.
    const handler = async (kind: number, payload: Buffer) => {
      const request = decodeRequest(kind, payload);
      const answer = await (await service).handle(request);
      if (request.op === 'stop') setImmediate(onStopped);
      return answer;
    };
    const session = new Session(stream, handler, () => systemClock.monotonicMs());
    this.#session = session;
    void session.ended.then(() => this.#clientGone(session)).catch(() => undefined);
    return session;
  }

  async #clientGone(session: Session): Promise<void> {
    // Another client may have taken its place; the marks are kept for that one then.
    if (this.#session !== session) return;
    const { floor } = await this.#runtime;
    floor.stop();
    await floor.flush();
  }

  #end(): void {
    const late = new VouchError('unavailable-signer', 'the token does not answer');
    setTimeout(() => endProcess({ error: late, hangs: true }), stopMs);
    this.#runtime
      .then(({ floor }) => floor.flush())
      .then(
        () => endProcess(undefined),
        (error: unknown) => endProcess({ error: asVouchError(error), hangs: false }),
      );
  }

  /** Crash only: whoever waits is cut off and asks the next process. */
  #fail(fault: { error: VouchError; hangs: boolean }): void {
    this.#session?.destroyBecause(fault.error);
    const { code, detail } = fault.error;
    stderrLog('error', 'the signer gives up this process', { code, problem: detail });
    const end = () => endProcess({ error: fault.error, hangs: true });
    setTimeout(end, 200);
    this.#runtime.then(({ floor }) => floor.flush()).then(end, end);
  }
}
