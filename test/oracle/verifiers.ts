import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import tls, { type TLSSocket } from 'node:tls';
import type { CertificateTemplate } from '../../src/x509/certificate-tbs.ts';
import { encodePem } from '../../src/x509/pem.ts';
import { newFolder } from '../support/running.ts';
import { ecKey } from '../x509/authority.ts';
import type { CurrentAuthority, ToolAnswer } from '../x509/oracle-tools.ts';
import { goJudge, javaJudge, LineProgram } from './line-program.ts';

/** What a verifier is asked: whether a leaf stands, by these CRLs (DER). */
export interface Question {
  leaf: Buffer;
  issuer: Buffer;
  root: Buffer;
  crls: readonly Buffer[];
}

/** `good`, `revoked`, or why it takes neither for sure. A reason and dates may stand behind `revoked`. */
export type Verdict = string;
/** Asks one verifier. `folder` holds root.pem, issuer.pem, leaf.pem, chain.pem, key.pem, crls.pem, and the CRLs as 0.pem, 1.pem, …. */
export type Judge = (folder: string, crls: readonly string[]) => Promise<Verdict>;

/** The key of every leaf here: a TLS server has to hold it. */
const leafKey = ecKey();

/** A URL where nobody answers: Java asks the CDP where it has no CRL, and no test asks a name server. */
export const nowhere = 'http://127.0.0.1:9/3.crl';

/** A leaf with a key that a server here can hold. */
export function leafOf(authority: CurrentAuthority, change: Partial<CertificateTemplate> = {}): Buffer {
  const { spki, keyId } = leafKey.info;
  return authority.leaf({ spki, subjectKeyId: keyId, crlUrls: [nowhere], ...change });
}

/** A question about a leaf of this authority. The CRL of its root, empty unless given, goes with the others. */
export function question(
  authority: CurrentAuthority,
  leaf: Buffer,
  crls: readonly Buffer[],
  rootCrl: Buffer = authority.crl({}, authority.root),
): Question {
  return { leaf, issuer: authority.issuer.der, root: authority.root.der, crls: [...crls, rootCrl] };
}

/** Runs another implementation's tool beside this process, so that it may ask a server in it. */
function runBeside([command = '', ...args]: readonly string[]): Promise<ToolAnswer> {
  return new Promise((done) => {
    execFile(command, args, { timeout: 60_000, maxBuffer: 1 << 28 }, (error, stdout, stderr) => {
      const status = error ? (typeof error.code === 'number' ? error.code : null) : 0;
      done({ status, output: `${stdout}${stderr}${status === null ? (error?.message ?? '') : ''}` });
    });
  });
}

function verdictOf({ status, output }: ToolAnswer): Verdict {
  // `openssl verify` says OK of what an expired CRL lets pass, and complains beside it.
  if (status === 0 && !/^error /m.test(output)) return 'good';
  return /revoked/i.test(output) ? 'revoked' : output;
}

/** `openssl verify` with every CRL checked, each in a file of its own. */
export function openSslCommand(
  folder: string,
  crls: readonly string[],
  flags: readonly string[] = [],
): string[] {
  const at = (name: string) => join(folder, name);
  const files = ['-CAfile', at('root.pem'), '-untrusted', at('issuer.pem')];
  const crlFiles = crls.flatMap((file) => ['-CRLfile', file]);
  return [
    'openssl',
    'verify',
    '-x509_strict',
    '-crl_check_all',
    ...flags,
    ...files,
    ...crlFiles,
    at('leaf.pem'),
  ];
}

/** OpenSSL with these flags. */
export function openSsl(...flags: readonly string[]): Judge {
  return async (folder, crls) => verdictOf(await runBeside(openSslCommand(folder, crls, flags)));
}

/** `certtool --verify` with all CRLs in one file. */
export function gnuTlsCommand(folder: string): string[] {
  const at = (name: string) => join(folder, name);
  const files = ['--load-ca-certificate', at('root.pem'), '--load-crl', at('crls.pem')];
  return ['certtool', '--verify', ...files, '--infile', at('chain.pem')];
}

const gnuTls: Judge = async (folder) => verdictOf(await runBeside(gnuTlsCommand(folder)));

const nss: Judge = async (folder, crls) => {
  const { imports, verify } = await nssCommands(folder, crls);
  for (const command of imports) {
    const { status, output } = await runBeside(command);
    // Of an issuer that it does not know it takes no CRL; in a file that many share there are some.
    if (status !== 0 && !output.includes('SEC_ERROR_UNKNOWN_ISSUER')) return output;
  }
  return verdictOf(await runBeside(verify));
};

/** Makes a database; gives what takes the CRLs into it, and what judges by it then. */
export async function nssCommands(
  folder: string,
  crls: readonly string[],
): Promise<{ imports: string[][]; verify: string[] }> {
  const at = (name: string) => join(folder, name);
  const database = ['-d', `sql:${at('nss')}`];
  mkdirSync(at('nss'));
  await runBeside(['certutil', '-N', '--empty-password', ...database]);
  for (const [name, trust] of [
    ['root', 'CT,C,C'],
    ['issuer', ',,'],
    ['leaf', ',,'],
  ] as const)
    await runBeside(['certutil', '-A', '-n', name, '-t', trust, '-a', '-i', at(`${name}.pem`), ...database]);
  const imports = crls.map((crl) => {
    writeFileSync(`${crl}.der`, Buffer.from(pemBody(crl), 'base64'));
    return ['crlutil', '-I', '-i', `${crl}.der`, '-t', '1', ...database];
  });
  return { imports, verify: ['vfychain', ...database, '-u', '1', '-a', at('leaf.pem'), at('issuer.pem')] };
}

function pemBody(file: string): string {
  return readFileSync(file, 'utf8').replaceAll(/-----.*-----/g, '');
}

/** One handshake, in which a client judges the certificate that a server shows. */
const node: Judge = async (folder, crls) => {
  const read = (name: string) => readFileSync(join(folder, name), 'utf8');
  const server = tls.createServer({ cert: read('chain.pem'), key: read('key.pem') });
  server.on('secureConnection', (socket) => socket.resume().on('error', () => socket.destroy()));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const socket: TLSSocket = tls.connect({
    host: '127.0.0.1',
    port,
    ca: read('root.pem'),
    crl: crls.map((file) => readFileSync(file, 'utf8')),
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
  });
  try {
    await once(socket, 'secureConnect');
    const said = String(socket.authorizationError ?? 'good');
    return said === 'CERT_REVOKED' ? 'revoked' : said;
  } finally {
    socket.destroy();
    server.close();
  }
};

/** The six whom the full CRL has to serve. */
export const names = ['OpenSSL', 'GnuTLS', 'NSS', 'Node', 'Java', 'Go'] as const;
/** One of the six. */
export type VerifierName = (typeof names)[number];

/** The six verifiers, with the programs that two of them live in. */
export class Verifiers {
  readonly judges: Readonly<Record<VerifierName, Judge>>;
  readonly #programs: readonly LineProgram[];

  private constructor(java: LineProgram, go: LineProgram) {
    this.#programs = [java, go];
    this.judges = {
      OpenSSL: openSsl(),
      GnuTLS: gnuTls,
      NSS: nss,
      Node: node,
      Java: asked(java),
      Go: asked(go),
    };
  }

  static async start(): Promise<Verifiers> {
    const [java, go] = await Promise.all([javaJudge(), goJudge()]);
    return new Verifiers(new LineProgram(java), new LineProgram(go));
  }

  /** What each of them says, without what stands behind `revoked`. */
  async all(asking: Question, whom: readonly VerifierName[] = names): Promise<Record<VerifierName, Verdict>> {
    const folder = newFolder();
    const crls = lay(asking, folder);
    const said = whom.map(async (name) => {
      const verdict = await this.judges[name](folder, crls);
      return [name, verdict.startsWith('revoked') ? 'revoked' : verdict] as const;
    });
    return Object.fromEntries(await Promise.all(said)) as Record<VerifierName, Verdict>;
  }

  end(): void {
    for (const program of this.#programs) program.end();
  }
}

/** What one of them says. */
export function ask(judge: Judge, asking: Question): Promise<Verdict> {
  const folder = newFolder();
  return judge(folder, lay(asking, folder));
}

/** A judge that lives in a program. */
function asked(program: LineProgram): Judge {
  return (folder, crls) => program.ask(questionLine(folder, crls));
}

/** The line that Java and Go answer. */
export function questionLine(folder: string, crls: readonly string[]): string {
  return [...['root', 'issuer', 'leaf'].map((name) => join(folder, `${name}.pem`)), ...crls].join('\t');
}

/** Writes what is asked about; gives the files of the CRLs. */
export function lay({ leaf, issuer, root, crls }: Question, folder: string): string[] {
  const write = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const [leafPem, issuerPem] = [leaf, issuer].map((der) => encodePem('CERTIFICATE', der));
  write('root.pem', encodePem('CERTIFICATE', root));
  write('issuer.pem', issuerPem ?? '');
  write('leaf.pem', leafPem ?? '');
  write('chain.pem', `${leafPem}${issuerPem}`);
  write('key.pem', leafKey.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString());
  const texts = crls.map((der) => encodePem('X509 CRL', der));
  write('crls.pem', texts.join(''));
  return texts.map((text, i) => write(`${i}.pem`, text));
}

/** `verdict` of all six, but for those whose verdict is given. */
export function everyone(
  verdict: unknown,
  others: Partial<Record<VerifierName, unknown>> = {},
): Partial<Record<VerifierName, unknown>> {
  return { ...Object.fromEntries(names.map((name) => [name, verdict])), ...others };
}
