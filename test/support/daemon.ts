import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parse, stringify } from 'yaml';
import { callAdmin } from '../../src/cli/admin-client.ts';
import type { Ready } from '../../src/server.ts';
import { adminPaths } from '../../src/wire/admin.ts';
import { type Json, newFolder, type Ran, Running, start, type StartOptions } from './running.ts';

const project = resolve(import.meta.dirname, '../..');
const dist = resolve(project, process.env.VOUCH_DIST ?? 'dist');
/** The program under test: `dist/`, or the build that VOUCH_DIST names. */
export const vouchEntry = join(dist, 'vouch.js');

/** Verbs of the agent, which know no configuration file. */
const agentVerbs = ['enroll', 'renew', 'exec', 'bundle'];

/** Starts `vouch` with these arguments and nothing added. */
export function startVouch(args: readonly string[], options: StartOptions = {}): Running {
  return start([process.execPath, vouchEntry, ...args], options);
}

/** Runs `vouch` with these arguments and nothing added, to its end. */
export function runVouch(args: readonly string[], options: StartOptions = {}): Promise<Ran> {
  return startVouch(args, options).ended();
}

/** What `hsm-sim/new-token` prints. */
export interface Token {
  module: string;
  tokenLabel: string;
  tokenSerial: string;
  pinFile: string;
  environment: Record<string, string>;
}

/** A new SoftHSM token in `folder`. */
export async function newToken(folder: string, label: string): Promise<Token> {
  const ran = await start(['hsm-sim/new-token', '--dir', join(folder, label), '--label', label, '--json'], {
    cwd: project,
  }).ended();
  writeFileSync(join(folder, `${label}.json`), ran.stdout, { mode: 0o600 });
  return ran.json<Token>();
}

/** Files of the keys that SoftHSM holds in the tokens below `folder`; pkcs11-tool would count them slower. */
export function keysIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(
    (name) => /\/tokens\/.*\.object$/.test(name) && !name.endsWith('/token.object'),
  );
}

let addresses = 0;

/** An address of the loopback network that no other test listens on, so that a port found free stays free. */
function ownAddress(): string {
  const number = (process.pid * 16 + addresses++) % (64 * 65_536);
  return `127.${128 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
}

/** How an authority is made. */
export interface BootOptions {
  trustDomain?: string;
  /** Changes the configuration that `vouch init` wrote. */
  configure?: (config: ConfigDocument) => void;
  /** Further flags of `vouch init`. */
  init?: readonly string[];
  /** The token of issuer and log; without it a new one of SoftHSM. */
  online?: Token;
  /** With a standby token, which takes over after 5 s. */
  standby?: boolean;
}

/** The configuration as YAML has it; what a test may wish to change. */
export interface ConfigDocument {
  trustDomain: string;
  state: string;
  hsm: Token;
  enrollment: Json;
  publication: Json;
  operations: Json;
  standby?: Json;
  [member: string]: unknown;
}

/** A running `vouch server`. */
export class Server extends Running {
  /** Its first line on stdout, once it was read. */
  get ready(): Ready {
    return JSON.parse(this.stdout.split('\n', 1)[0] ?? '') as Ready;
  }
}

interface Tokens {
  online: Token;
  root: Token;
  standby?: Token | undefined;
}

/** A signer as `vouch status` has it. */
interface SignerStatus {
  state: string;
  pid: number | null;
  restarts: number;
}

/** What `vouch status` says. */
export interface Status {
  state: string;
  problems: string[];
  signer: SignerStatus;
  standby?: SignerStatus;
  log: { treeSize: number; checkpointSize: number };
  issuers: { keyId: string; state: string; issuing: boolean; notAfter: string }[];
  crls: { issuerKeyId: string; scope: string; crlNumber: number; url: string }[];
}

/** An authority on disk with two tokens or three, its server where one runs, and its operator's verbs. */
export class Authority {
  readonly folder: string;
  readonly trustDomain: string;
  readonly state: string;
  readonly config: string;
  readonly tokens: Tokens;
  #server: Server | undefined;
  #files = 0;

  constructor(folder: string, trustDomain: string, tokens: Tokens, state = join(folder, 's')) {
    this.folder = folder;
    this.trustDomain = trustDomain;
    this.state = state;
    this.config = join(this.state, 'vouch.yaml');
    this.tokens = tokens;
  }

  /** The server that was started last. */
  get server(): Server {
    if (!this.#server) throw new Error('no server was started');
    return this.#server;
  }

  /** SPIFFE ID of a name. */
  id(name: string): string {
    return `spiffe://${this.trustDomain}/${name}`;
  }

  /** A path in this authority's folder that nothing uses yet. */
  path(name: string): string {
    this.#files += 1;
    return join(this.folder, `${name}-${this.#files}`);
  }

  /** `vouch init` into the state directory, whether it is there or not. */
  init(...flags: readonly string[]): Promise<Ran> {
    return runVouch([...this.initArguments(), '--json', ...flags]);
  }

  /** The command line of `vouch init` for this authority. */
  initArguments(): string[] {
    const { standby } = this.tokens;
    return [
      ...[...this.initWithoutRoot(), '--root-hsm-file', join(this.folder, 'root.json')],
      ...(standby ? ['--standby-hsm-file', join(this.folder, 'standby.json')] : []),
    ];
  }

  /** The same without the root's token, which is elsewhere. */
  initWithoutRoot(): string[] {
    const address = ownAddress();
    const listen = ['enrollment', 'publication', 'operations'].flatMap((name) => [
      `--${name}-listen`,
      `${address}:0`,
    ]);
    const where = ['--state', this.state, '--trust-domain', this.trustDomain, '--dev'];
    return ['init', ...where, '--hsm-file', join(this.folder, 'online.json'), ...listen];
  }

  /** Changes the configuration on disk. */
  configure(change: (config: ConfigDocument) => void): void {
    const document = parse(readFileSync(this.config, 'utf8')) as ConfigDocument;
    change(document);
    writeFileSync(this.config, stringify(document), { mode: 0o600 });
  }

  /** Starts the server and waits until it is ready; rejects with what it wrote where it ends instead. */
  async start(options: StartOptions = {}): Promise<Server> {
    const server = this.launch(options);
    await server.until(({ stdout }) => stdout.includes('\n'));
    return server;
  }

  /** Starts the server without waiting for anything. */
  launch(options: StartOptions = {}): Server {
    const { child } = startVouch(['server', '--config', this.config, '--json'], options);
    this.#server = new Server(child);
    return this.#server;
  }

  /** How a server that must not start ends; one that does start is ended and shows up as code 0. */
  async refusal(options: StartOptions = {}): Promise<Ran> {
    const server = this.launch(options);
    await server
      .until((running) => running.stdout.includes('\n') || running.code !== undefined)
      .catch(() => undefined);
    if (server.code === undefined) await server.end();
    return server.ended();
  }

  /** Runs a verb with `--json`, and an operator's verb on this configuration. */
  vouch(...args: readonly string[]): Promise<Ran> {
    const more = agentVerbs.includes(args[0] ?? '') ? ['--json'] : ['--config', this.config, '--json'];
    return runVouch([...args, ...more]);
  }

  /** What `vouch status --json` prints, asked by what that verb asks with. */
  status(): Promise<Status> {
    return callAdmin(join(this.state, 'admin.sock'), 'GET', adminPaths.status);
  }

  /** Key id of the issuer that issues now. */
  async issuing(): Promise<string | undefined> {
    return (await this.status()).issuers.find((issuer) => issuer.issuing)?.keyId;
  }

  /** Takes a token out, as if it were unplugged; the signer that had it open ends. Returns what puts it back. */
  async takeAway(name: 'online' | 'standby'): Promise<() => void> {
    const at = join(this.folder, name);
    const gone = `${at}.gone`;
    const { signer, standby } = await this.status();
    renameSync(at, gone);
    const { pid } = name === 'online' ? signer : (standby ?? { pid: null });
    if (pid !== null) process.kill(pid, 'SIGKILL');
    return () => renameSync(gone, at);
  }

  /** A new join file for `name`. */
  async join(name: string, ...flags: readonly string[]): Promise<Joining> {
    const path = this.path('join');
    const created = await this.vouch('token', 'create', '--id', this.id(name), '--out', path, ...flags);
    return { path, ...created.json<{ tokenId: string; expiresAt: string }>() };
  }

  /** A workload with its certificate, enrolled with a join file of its own. */
  async enroll(name: string, ...tokenFlags: readonly string[]): Promise<Workload> {
    const { path } = await this.join(name, ...tokenFlags);
    const dir = this.path('w');
    return new Workload((await this.vouch('enroll', '--join-file', path, '--out', dir)).json<Delivery>());
  }
}

/** A join file and its token's id. */
export interface Joining {
  path: string;
  tokenId: string;
  expiresAt: string;
}

/** What `vouch enroll` prints. */
export interface Delivery {
  dir: string;
  spiffeId: string;
  serial: string;
  notBefore: string;
  notAfter: string;
  issuerKeyId: string;
  logIndex: number;
}

/** Delivered files. */
export class Workload {
  readonly delivery: Delivery;
  readonly dir: string;
  readonly serial: string;

  constructor(delivery: Delivery) {
    this.delivery = delivery;
    this.dir = delivery.dir;
    this.serial = delivery.serial;
  }

  /** Path of a delivered file. */
  path(name: string): string {
    return join(this.dir, 'current', name);
  }

  read(name: string): string {
    return readFileSync(this.path(name), 'utf8');
  }
}

/** Makes tokens and state, without starting a server. */
export async function initAuthority(options: BootOptions = {}): Promise<Authority> {
  const folder = newFolder();
  const [online, root, standby] = await Promise.all([
    options.online ?? newToken(folder, 'online'),
    newToken(folder, 'root'),
    options.standby === true ? newToken(folder, 'standby') : undefined,
  ]);
  if (options.online)
    writeFileSync(join(folder, 'online.json'), JSON.stringify(options.online), { mode: 0o600 });
  const authority = new Authority(folder, options.trustDomain ?? 'test.example', { online, root, standby });
  (await authority.init(...(options.init ?? []))).json();
  if (standby) authority.configure((config) => Object.assign(config.standby ?? {}, { after: '5s' }));
  if (options.configure) authority.configure(options.configure);
  return authority;
}

/** Makes an authority and starts its server. */
export async function bootAuthority(options: BootOptions = {}): Promise<Authority> {
  const authority = await initAuthority(options);
  await authority.start();
  return authority;
}

/** The JSON inside a join file. */
export function joinContent(path: string): Json & { token: string; pin: string; server: string } {
  const line = readFileSync(path, 'utf8').trim();
  return JSON.parse(Buffer.from(line.slice('vouch1.'.length), 'base64url').toString('utf8')) as ReturnType<
    typeof joinContent
  >;
}

/** Writes a join file with these members. */
export function writeJoin(path: string, content: Json): void {
  writeFileSync(path, `vouch1.${Buffer.from(JSON.stringify(content)).toString('base64url')}\n`, {
    mode: 0o600,
  });
}
