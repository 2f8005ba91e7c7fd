import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { encodePem } from '../../../src/x509/pem.ts';
import { placeProxy, sbin } from '../../support/proxy.ts';
import type { Bed } from './bed.ts';
import type { Identity } from './identities.ts';

const execute = promisify(execFile);
const timeoutMs = 120_000;
/** Who takes longer than this with a CRL is not waited for. */
const patienceMs = 30_000;

/** CRLs as they were fetched last, DER. */
export interface FetchedCrls {
  full: Buffer;
  shardOf: (identity: Identity) => Buffer;
  delta: { base: Buffer; delta: Buffer };
}

/** Throws unless OpenSSL refuses the revoked and accepts the good one, by shard, by full CRL, and by base and delta. */
export async function openSslAgrees(
  bed: Bed,
  crls: FetchedCrls,
  { good, revoked }: { good: Identity; revoked: Identity },
): Promise<void> {
  const folder = bed.folder('openssl');
  for (const [identity, isRevoked] of [
    [good, false],
    [revoked, true],
  ] as const) {
    const by = {
      full: { ders: [crls.full], flags: [] },
      shard: { ders: [crls.shardOf(identity)], flags: ['-extended_crl'] },
      delta: { ders: [crls.delta.base, crls.delta.delta], flags: ['-use_deltas', '-extended_crl'] },
    };
    for (const [name, { ders, flags }] of Object.entries(by)) {
      const said = await openSslSays(folder, identity, ders, flags);
      if (isRevoked ? !/error 23 .*revoked/.test(said) : !/: OK$/m.test(said))
        throw new Error(
          `openssl verify, by ${name}, of a ${isRevoked ? 'revoked' : 'good'} certificate: ${said}`,
        );
    }
  }
}

async function openSslSays(
  folder: string,
  identity: Identity,
  ders: readonly Buffer[],
  flags: readonly string[],
): Promise<string> {
  const files = writeTrust(folder, identity, ders);
  const trust = ['-CAfile', files.root, '-untrusted', files.chain, '-CRLfile', files.crls];
  const args = ['verify', '-crl_check', ...flags, ...trust, files.chain];
  return execute('openssl', args, { timeout: timeoutMs }).then(
    ({ stdout }) => stdout,
    (failed: unknown) => {
      const { stdout, stderr } = failed as { stdout: string; stderr: string };
      return stdout + stderr;
    },
  );
}

function writeTrust(folder: string, identity: Identity, ders: readonly Buffer[]) {
  const write = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  return {
    root: write('root.pem', identity.ca),
    chain: write('chain.pem', identity.cert),
    crls: write('crls.pem', ders.map((der) => encodePem('X509 CRL', der)).join('')),
  };
}

/**
 * What each verifier itself takes with a full CRL, from the start of a process that reads the file to its end,
 * milliseconds; NaN beyond half a minute. `dir`: files as an agent keeps them.
 */
export async function verifierTimes(
  bed: Bed,
  dir: string,
  identity: Identity,
): Promise<Record<string, number>> {
  const current = join(dir, 'current');
  const folder = bed.folder('verifiers');
  const { root, chain } = writeTrust(folder, identity, []);
  const place = { etc: folder, run: dir, joinFile: '', port: 1, servicePort: 1, vouch: [] };
  for (const name of ['nginx', 'haproxy'] as const) placeProxy(name, place);
  const crl = join(current, 'crl.pem');
  const node = `require('tls').createSecureContext({ crl: require('fs').readFileSync(${JSON.stringify(crl)}) })`;
  const openssl = ['verify', '-crl_check_all', '-CAfile', root, '-untrusted', chain, '-CRLfile', crl, chain];
  const commands: Record<string, [string, ...string[]]> = {
    openssl: ['openssl', ...openssl],
    gnutls: ['certtool', '--verify', '--load-ca-certificate', root, '--load-crl', crl, '--infile', chain],
    node: [process.execPath, '-e', node],
    nginx: ['nginx', '-t', '-q', '-e', 'stderr', '-c', join(folder, 'mtls.conf')],
    haproxy: ['haproxy', '-c', '-f', join(folder, 'mtls.cfg')],
  };
  const times: Record<string, number> = { crl_pem_mb: readFileSync(crl).length / 1e6 };
  for (const [name, [file, ...args]] of Object.entries(commands)) {
    const startMs = performance.now();
    const options = { timeout: patienceMs, env: { ...process.env, ...sbin }, maxBuffer: 1e8 };
    const isPatient = await execute(file, args, options).then(
      () => true,
      (error: unknown) => {
        if ((error as { killed?: boolean }).killed !== true) throw error;
        return false;
      },
    );
    times[`verifier_ms_${name}`] = isPatient ? performance.now() - startMs : Number.NaN;
  }
  return times;
}
