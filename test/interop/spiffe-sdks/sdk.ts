import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { blockOf, commandOf } from '../../support/documents.ts';
import { buildGo } from '../../support/go.ts';
import { pythonWith } from '../../support/python.ts';
import { newFolder } from '../../support/running.ts';
import { unusedUids } from '../../support/users.ts';

const here = import.meta.dirname;
const python = ['spiffe==0.3.2', 'grpcio==1.85.3', 'cryptography==50.0.2'];
const numbers = unusedUids(64);

/** A user or group of its own, by which the agent knows a workload. */
export interface Account {
  selector: string;
  /** Runs the rest of its arguments as that. */
  wrapper: readonly string[];
}

/** Workloads written with one SDK. */
export interface Sdk {
  /** Of the verbs of its program. */
  command(verb: string, ...args: string[]): string[];
  document: string;
  /** The server and the client of its document. */
  server(port: number, allowed: string): string[];
  client(port: number, expected: string): string[];
  /** Arguments of the verb `dial`. */
  target(port: number): string[];
  account(): Account;
}

function numbered(): number {
  const number = numbers.shift();
  if (number === undefined) throw new Error('more accounts than were reserved');
  return number;
}

/** go-spiffe. The programs lie where every user finds them, below `folder`. */
export async function goSdk(folder: string): Promise<Sdk> {
  const copied = async (name: string, source: string): Promise<string> => {
    const program = join(folder, name);
    copyFileSync(await buildGo(source), program);
    return program;
  };
  const document = 'integrations/go.md';
  const program = await copied('go-workload', join(here, 'go'));
  const documented = {
    server: await copied('go-server', moduleOf('server.go')),
    client: await copied('go-client', moduleOf('client.go')),
  };
  const pasted = (name: 'server' | 'client', port: number, id: string): string[] =>
    commandOf(document, name, (line) => put(line.replace(`./${name}`, documented[name]), port, id));
  return {
    document,
    command: (...words) => [program, ...words],
    server: (port, allowed) => pasted('server', port, allowed),
    client: (port, expected) => pasted('client', port, expected),
    target: (port) => [`https://127.0.0.1:${port}/`],
    account() {
      const uid = numbered();
      const wrapper = ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--no-new-privs'];
      return { selector: `unix:uid:${uid}`, wrapper };
    },
  };
}

/** Port and SPIFFE ID of the test's in a command of a document. */
function put(line: string, port: number, id: string): string {
  return line.replace('8443', `${port}`).replace(/spiffe:\S+/, id);
}

/** A module of the document's program, with the same versions. */
function moduleOf(name: string): string {
  const folder = newFolder();
  for (const file of ['go.mod', 'go.sum']) copyFileSync(join(here, 'go', file), join(folder, file));
  writeFileSync(join(folder, 'main.go'), blockOf('integrations/go.md', `go ${name}`));
  return folder;
}

/** The package `spiffe`. Its Python may lie in a folder that only its owner opens, so that workloads differ by group. */
export function pythonSdk(folder: string): Sdk {
  const document = 'integrations/python.md';
  const interpreter = pythonWith(...python);
  copyFileSync(join(here, 'python', 'workload.py'), join(folder, 'workload.py'));
  for (const name of ['mtls.py', 'server.py', 'client.py'])
    writeFileSync(join(folder, name), blockOf(document, `python ${name}`));
  const pasted = (name: string, port: number, id: string): string[] =>
    commandOf(document, name, (line) =>
      put(line.replace(/^python (\S+)/, `${interpreter} ${folder}/$1`), port, id),
    );
  return {
    document,
    command: (...words) => [interpreter, join(folder, 'workload.py'), ...words],
    server: (port, allowed) => pasted('server', port, allowed),
    client: (port, expected) => pasted('client', port, expected),
    target: (port) => ['127.0.0.1', `${port}`],
    account() {
      const gid = numbered();
      return {
        selector: `unix:gid:${gid}`,
        wrapper: ['setpriv', `--regid=${gid}`, '--clear-groups', '--no-new-privs'],
      };
    },
  };
}
