import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { expect, onTestFailed, onTestFinished } from 'vitest';
import { parse, stringify } from 'yaml';
import { callAdmin } from '../../src/cli/admin-client.ts';
import { adminPaths } from '../../src/wire/admin.ts';
import { type Authority, bootAuthority, startVouch, vouchEntry } from './daemon.ts';
import { freePort } from './ports.ts';
import { type Exchange, serialOf, TlsCaller } from './tls-caller.ts';
import { deliveredIdentity, type PeerIdentity } from './tls-peer.ts';
import { eventually, type Running, start } from './running.ts';

/** Callers that every host has, as entries of its agent. */
const callers = ['good', 'victim'] as const;
type CallerName = (typeof callers)[number];

/** The agent of the documents. */
const agentName = 'host-1';

const programs = ['/usr/sbin', '/usr/lib/postgresql/15/bin'];

/** What is needed of an entry as the admin socket has it. */
interface EntryRow {
  entryId: string;
  spiffeId: string;
  parentId: string;
  selectors: string[];
  dnsNames: string[];
}

/** What was seen while software took new certificates and CRLs. */
export interface Proof {
  /** Of a caller that was never revoked, which makes connection after connection. */
  failures: string[];
  /** From the operator's change to the new certificate on a connection; one number a rotation. */
  rotationMs: number[];
  /** From the operator's word until the revoked caller was served for the last time; undefined where it is served still. */
  refusalMs: number | undefined;
  /** Whether it was served at the end on a connection that it had opened before. */
  isServedOnOpen: boolean;
}

const rotations = 2;
/** Connections that are served after each rotation, before the next. */
const servedBetween = 10;
const rotationLimitMs = 2000;
/** So many refusals in a row, every second with a session from before, are for good. */
const refusalsInRow = 10;

/**
 * A host of the trust domain prod.example with a running agent and software that takes its certificate from files,
 * configured by what stands in the fenced blocks of its document; /etc, /run and /var of the document are in the authority's
 * folder.
 */
export class DeliveredHost {
  readonly #authority: Authority;
  readonly port: number;
  readonly #document: string;
  readonly #replace: (text: string) => string;
  /** Of all targets. */
  #folders: readonly string[] = [];

  private constructor(
    authority: Authority,
    port: number,
    document: string,
    changes: [string | RegExp, string][],
  ) {
    this.#authority = authority;
    this.port = port;
    this.#document = document;
    this.#replace = (text) =>
      changes.reduce(
        (changed, [from, to]) => changed.replaceAll(from, to),
        text.replace(/(?<![\w.])\/(?=(?:etc|run|var)\/)/g, `${authority.folder}/`),
      );
  }

  /** `name` of docs/integrations; `changes` are made to what stands there, of which $PORT becomes a free port. */
  static async boot(
    name: string,
    changes: readonly (readonly [from: string | RegExp, to: string])[] = [],
  ): Promise<DeliveredHost> {
    if (process.getuid?.() !== 0) throw new Error('only root gives files to others; run this test as root');
    const authority = await bootAuthority({ trustDomain: 'prod.example' });
    // The software's users find what is theirs.
    chmodSync(authority.folder, 0o711);
    const port = await freePort();
    const document = readFileSync(resolve(import.meta.dirname, `../../docs/integrations/${name}.md`), 'utf8');
    const filled = changes.map(([from, to]): [string | RegExp, string] => [
      from,
      to.replaceAll('$PORT', `${port}`),
    ]);
    return new DeliveredHost(authority, port, document, filled);
  }

  /** A path of the document on this host. */
  path(path: string): string {
    return this.#replace(path);
  }

  /** The fenced block of the document that matches, for this host. */
  block(mark: RegExp): string {
    const [block, ...more] = this.blocks(mark);
    if (block === undefined || more.length > 0)
      throw new Error(`not one block of the document matches ${mark}`);
    return block;
  }

  blocks(mark: RegExp): string[] {
    return [...this.#document.matchAll(/^```\w+\n([^]*?)^```$/gm)]
      .map(([, block = '']) => block)
      .filter((block) => mark.test(block))
      .map(this.#replace);
  }

  /** Writes a file of the document's. */
  write(path: string, content: string): string {
    const file = this.path(path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
    return file;
  }

  /** Makes a folder of the document's, which `user` writes to. */
  giveFolder(path: string, user: string): string {
    const folder = this.path(path);
    mkdirSync(folder, { recursive: true });
    const { uid, gid } = accountOf(user);
    chownSync(folder, uid, gid);
    return folder;
  }

  /** Runs lines of shell in which `vouch` is the operator's command on this authority. */
  async #shell(script: string): Promise<void> {
    const { config } = this.#authority;
    const vouch = `vouch() { '${process.execPath}' '${vouchEntry}' "$@" --config '${config}' --json; }`;
    const ran = await start(['sh', '-euc', `${vouch}\n${script}`], { env: environment() }).ended();
    if (ran.code !== 0) throw new Error(`exit ${ran.code}: ${ran.stderr}${ran.stdout}`);
  }

  /** The folder that all of it is in. */
  get folder(): string {
    return this.#authority.folder;
  }

  /**
   * Makes the document's entries and the callers', and starts the agent with its targets and theirs until all is delivered.
   * `run` starts `vouch` with these arguments in another way.
   */
  async startAgent(
    run = (args: readonly string[]): Running => startVouch(args, { env: environment() }),
  ): Promise<void> {
    const authority = this.#authority;
    const [joining] = await Promise.all([
      authority.join(agentName),
      this.#shell(this.blocks(/^vouch entry create/).join('')),
      ...callers.map((name) => this.#createEntry(name)),
    ]);
    const targets = [
      ...this.blocks(/^deliver:/).flatMap((yaml) => (parse(yaml) as { deliver: { dir: string }[] }).deliver),
      ...callers.map((name) => ({ id: `spiffe://prod.example/${name}`, dir: this.#callerDir(name) })),
    ];
    this.#folders = targets.map((target) => target.dir);
    const dir = authority.path('agent');
    const config = join(authority.folder, 'agent.yaml');
    const own = { joinFile: joining.path, dir, socket: join(authority.folder, 'agent.sock') };
    writeFileSync(config, stringify({ ...own, deliver: targets }));
    const agent = run(['agent', '--config', config, '--json']);
    onTestFailed(() => console.log(agent.stderr));
    const notices = targets.map((target) => `${target.dir}: spiffe://`);
    await agent.until(({ stderr }) => notices.every((notice) => stderr.includes(notice)));
  }

  /** Starts software on this host; with `user` as that one. */
  start(command: readonly string[], user?: string): Running {
    const wrapper =
      user === undefined ? [] : ['setpriv', `--reuid=${user}`, `--regid=${user}`, '--init-groups'];
    const env = { ...environment(), HOME: this.#authority.folder };
    const software = start(command, { env, wrapper, cwd: '/' });
    onTestFailed(() => console.log(software.stdout, software.stderr));
    return software;
  }

  #callerDir(name: CallerName): string {
    return join(this.#authority.folder, 'callers', name);
  }

  /** What is delivered for a caller now. */
  #identity(name: CallerName): PeerIdentity {
    return deliveredIdentity(this.#callerDir(name));
  }

  #caller(name: CallerName, serverName: string, exchangeOf: (name: CallerName) => Exchange): TlsCaller {
    const target = { host: '127.0.0.1', port: this.port, serverName };
    return new TlsCaller(target, this.#identity(name), exchangeOf(name));
  }

  /**
   * Has the certificate of the document's first entry replaced again and again and then the victim revoked, while a good
   * caller makes connection after connection. Rejects where what is awaited does not come to pass.
   */
  async prove(
    serverName: string,
    exchangeOf: (name: CallerName) => Exchange,
    { readsCrls = true } = {},
  ): Promise<Proof> {
    const good = this.#caller('good', serverName, exchangeOf);
    let shown = await eventually(() => good.ask().catch(() => undefined), 15_000);
    // While software was not up, the agent tried to tell it with growing pauses; what follows is not to wait for those.
    await eventually(() => !this.#folders.some((dir) => existsSync(join(dir, '.reload-due'))), 35_000);
    const knocks = knocking(good);
    const rotationMs: number[] = [];
    for (let rotation = 0; rotation < rotations; rotation += 1) {
      const before = shown;
      const started = performance.now();
      await this.#replaceEntry();
      shown = await eventually(async () => {
        const serial = await good.ask().catch(() => undefined);
        return serial !== before && serial;
      });
      rotationMs.push(performance.now() - started);
      const enough = knocks.served() + servedBetween;
      await eventually(() => knocks.served() >= enough);
    }
    const victim = this.#caller('victim', serverName, exchangeOf);
    const isServedOnOpen = await victim.stay();
    const refusalMs = await this.#revoked(victim, readsCrls);
    return { failures: await knocks.end(), rotationMs, refusalMs, isServedOnOpen: await isServedOnOpen() };
  }

  /** Revokes what the victim has, and waits until it is refused for good, or where it is not, until the agent knows. */
  async #revoked(victim: TlsCaller, readsCrls: boolean): Promise<number | undefined> {
    const started = performance.now();
    const target = { serial: victim.serial };
    await this.#admin('POST', adminPaths.revocations, { target, reason: 'superseded' });
    if (!readsCrls) {
      // Its agent has replaced it.
      await eventually(() => serialOf(this.#identity('victim')) !== victim.serial);
      await victim.ask();
      return undefined;
    }
    let lastMs = started;
    let inRow = 0;
    await eventually(async () => {
      await victim.ask({ resume: inRow % 2 === 1 }).then(
        () => ([lastMs, inRow] = [performance.now(), 0]),
        () => (inRow += 1),
      );
      return inRow === refusalsInRow;
    });
    return lastMs - started;
  }

  /** Another entry like the document's first, which then goes: its certificate is delivered from then on. */
  async #replaceEntry(): Promise<void> {
    const [, id = ''] = /--id (\S+)/.exec(this.blocks(/^vouch entry create/)[0] ?? '') ?? [];
    const { entries } = await this.#admin<{ entries: [EntryRow] }>('GET', `${adminPaths.entries}?id=${id}`);
    const [{ entryId, spiffeId, parentId, selectors, dnsNames }] = entries;
    // Asked for once more as it is, there would be no other.
    await this.#admin('POST', adminPaths.entries, { spiffeId, parentId, selectors, dnsNames, hint: entryId });
    await this.#admin('POST', adminPaths.entryDelete, { entryId });
  }

  #createEntry(name: CallerName): Promise<unknown> {
    return this.#admin('POST', adminPaths.entries, {
      spiffeId: `spiffe://prod.example/${name}`,
      parentId: `spiffe://prod.example/${agentName}`,
      selectors: ['unix:uid:54321'],
      dnsNames: [`${name}.prod.example`],
      profile: 'cn-first-dns',
    });
  }

  /** As the command line does, without the start of a process. */
  #admin<T>(method: 'GET' | 'POST', path: string, body?: object): Promise<T> {
    return callAdmin<T>(this.#authority.server.ready.adminSocket, method, path, body);
  }
}

/** Every rotation is taken and no handshake fails; the limit is that of the best of them, on a shared machine. */
export function expectSmooth({ failures, rotationMs }: Proof): void {
  expect(failures).toEqual([]);
  expect(Math.min(...rotationMs)).toBeLessThan(rotationLimitMs);
}

/** A plain HTTP service that ends with the test, and the headers of each request it had. */
export async function plainService(): Promise<{ port: number; seen: IncomingHttpHeaders[] }> {
  const seen: IncomingHttpHeaders[] = [];
  const service = createServer(({ headers }, response) => {
    seen.push(headers);
    response.end('served');
  });
  await new Promise<void>((done) => service.listen(0, '127.0.0.1', done));
  onTestFinished(() => void service.close());
  return { port: (service.address() as AddressInfo).port, seen };
}

/** Connection after connection until told to end, which says what failed. */
function knocking(caller: TlsCaller) {
  let isOver = false;
  let served = 0;
  const failures: string[] = [];
  const knock = async (): Promise<void> => {
    while (!isOver)
      await caller.ask().then(
        () => (served += 1),
        (error: unknown) => failures.push(String(error)),
      );
  };
  const knocks = [knock(), knock()];
  return {
    served: (): number => served,
    end: async (): Promise<string[]> => {
      isOver = true;
      await Promise.all(knocks);
      return failures;
    },
  };
}

function accountOf(user: string): { uid: number; gid: number } {
  const [, , uid, gid] = spawnSync('getent', ['passwd', user], { encoding: 'utf8' }).stdout.split(':');
  if (uid === undefined) throw new Error(`no user ${user}; scripts/setup installs what brings it`);
  return { uid: Number(uid), gid: Number(gid) };
}

function environment(): NodeJS.ProcessEnv {
  return { PATH: [process.env.PATH, ...programs].join(':') };
}
