import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { stringify } from 'yaml';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { keyIdOf } from '../../src/x509/public-key.ts';
import { Authority, newToken, runVouch, type Token, vouchEntry } from './daemon.ts';
import { type Json, newFolder, type Ran, start, type StartOptions } from './running.ts';

let carried = 0;

/** A stick between the machines, by copies: neither reads the other's folder. */
function carry(from: string, folder: string): string {
  const to = join(folder, `${basename(from)}-carried-${carried++}`);
  cpSync(from, to, { recursive: true });
  return to;
}

/** The machine of the root: a folder with its token, and no network. */
export class RootMachine {
  readonly folder: string;
  readonly token: Token;
  #files = 0;

  constructor(folder: string, token: Token) {
    this.folder = folder;
    this.token = token;
  }

  /** A path that nothing uses yet. */
  path(name: string): string {
    this.#files += 1;
    return join(this.folder, `${name}-${this.#files}`);
  }

  /** Runs vouch in a network namespace of its own, where there is nothing to reach. */
  vouch(args: readonly string[], options: StartOptions = {}): Promise<Ran> {
    const alone = ['unshare', '--net', ...(process.getuid?.() === 0 ? [] : ['--map-root-user'])];
    return start([...alone, process.execPath, vouchEntry, ...args], options).ended();
  }

  /** Writes the file of a ceremony; `more` overrides its members. */
  file(more: Json & { root?: Json }): { file: string; out: string } {
    const out = this.path('result');
    const file = this.path('ceremony.yaml');
    const { root, ...rest } = more;
    const ceremony = { operators: ['Ada', 'Grace'], out, ...rest, root: { hsm: this.token, ...root } };
    writeFileSync(file, stringify(ceremony));
    return { file, out };
  }

  /** Dry run, then the ceremony; resolves to its folder. */
  async hold(more: Json & { root?: Json }, options: StartOptions = {}): Promise<string> {
    const { file, out } = this.file(more);
    (await this.vouch(['ceremony', '--file', file, '--json'], options)).json();
    (await this.vouch(['ceremony', '--file', file, '--yes', '--json'], options)).json();
    return out;
  }
}

/** What `vouch init --issuer-csr-out` prints. */
export interface Requested {
  request: string;
  sha256: string;
  issuerKeyIds: string[];
  made: boolean;
}

/** An authority and the root that it does not hold. */
export class TwoMachines {
  readonly authority: Authority;
  readonly root: RootMachine;

  constructor(authority: Authority, root: RootMachine) {
    this.authority = authority;
    this.root = root;
  }

  /** Makes keys and request; the request is carried to the root. */
  async request(...flags: readonly string[]): Promise<Requested & { carried: string }> {
    const { authority } = this;
    const file = authority.path('request.json');
    const args = [...authority.initWithoutRoot(), '--issuer-csr-out', file, '--json', ...flags];
    const requested = (await runVouch(args)).json<Requested>();
    return { ...requested, carried: carry(file, this.root.folder) };
  }

  /** Carries a file to the root. */
  toRoot(file: string): string {
    return carry(file, this.root.folder);
  }

  /** Carries a result to the authority and takes it in. */
  takeIn(result: string, ...flags: readonly string[]): Promise<Ran> {
    const folder = carry(result, this.authority.folder);
    const { state } = this.authority;
    return runVouch(['init', '--state', state, '--ceremony-in', folder, '--json', ...flags]);
  }

  /** Carries a renewal to the authority and takes it in. */
  importRenewal(result: string): Promise<Ran> {
    const folder = carry(result, this.authority.folder);
    return this.authority.vouch('ceremony', '--import', folder, '--yes');
  }

  /** What is served now, carried to the root as a renewal wants it. */
  async served(publicationUrl: string): Promise<{ bundle: string; crl: string; sequence: number }> {
    const fetched = async (url: string): Promise<Buffer> =>
      Buffer.from(await (await fetch(`${publicationUrl}${url}`)).arrayBuffer());
    const json = await fetched('/bundle.json');
    const { keys, spiffe_sequence: sequence } = JSON.parse(json.toString()) as {
      keys: { x5c: string[] }[];
      spiffe_sequence: number;
    };
    const { spki } = parseCertificate(Buffer.from(keys[0]?.x5c[0] ?? '', 'base64'));
    const [bundle, crl] = [this.authority.path('bundle.json'), this.authority.path('root.crl')];
    writeFileSync(bundle, json);
    writeFileSync(crl, await fetched(`/crl/${keyIdOf(spki)}.crl`));
    return { bundle: this.toRoot(bundle), crl: this.toRoot(crl), sequence };
  }

  /** What `vouch log verify` finds wrong. */
  async logProblems(): Promise<string[]> {
    const { state } = this.authority;
    return (await this.authority.vouch('log', 'verify', '--state', state)).json<{ problems: string[] }>()
      .problems;
  }
}

/** Two machines with a token each. */
export async function twoMachines(trustDomain = 'test.example'): Promise<TwoMachines> {
  const folder = newFolder();
  const [online, offline] = [join(folder, 'on'), join(folder, 'off')];
  for (const machine of [online, offline]) mkdirSync(machine);
  const [onlineToken, rootToken] = await Promise.all([newToken(online, 'online'), newToken(offline, 'root')]);
  const authority = new Authority(online, trustDomain, { online: onlineToken, root: rootToken });
  return new TwoMachines(authority, new RootMachine(offline, rootToken));
}

/** A whole authority, made on two machines. */
export async function madeOnTwoMachines(
  ...flags: readonly string[]
): Promise<TwoMachines & { result: string }> {
  const machines = await twoMachines();
  const { carried } = await machines.request(...flags);
  const result = await machines.root.hold({ request: { file: carried } });
  (await machines.takeIn(result, '--yes')).json();
  return Object.assign(machines, { result });
}

/** A JSON file of a result. */
export function jsonOf(folder: string, name: string): Json {
  return JSON.parse(readFileSync(join(folder, name), 'utf8')) as Json;
}
