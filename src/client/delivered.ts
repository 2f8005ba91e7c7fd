import { readFileSync, readlinkSync } from 'node:fs';
import { resolve } from 'node:path';
import { VouchError } from '../core/errors.ts';
import { parseSpiffeId, type SpiffeId } from '../core/spiffe-id.ts';
import { type PeersJson, peersSchema } from '../wire/enrollment.ts';
import { type ParsedCertificate, parseCertificate } from '../x509/certificate.ts';
import { decodePem } from '../x509/pem.ts';

/** Names of the files in a generation folder. */
export const fileNames = {
  chain: 'svid.pem',
  key: 'svid.key',
  combined: 'svid-combined.pem',
  bundle: 'bundle.pem',
  issuers: 'issuers.pem',
  crl: 'crl.pem',
  delta: 'crl-delta.pem',
  proof: 'proof.json',
  peers: 'peers.json',
} as const;

/** One generation as it was delivered. Its CRLs change within its life and are read by themselves. */
export interface Delivered {
  /** The generation's folder: `current` resolved once, so that no two files are of different generations. */
  folder: string;
  chainPem: string;
  keyPem: string;
  bundlePem: string;
  leaf: ParsedCertificate;
  spiffeId: SpiffeId;
  /** Issuers as they stand in svid.pem, without the root. */
  issuers: readonly ParsedCertificate[];
  /** Those of peers alone, from issuers.pem, which is there where the trust domain has more than one. */
  otherIssuers: readonly ParsedCertificate[];
  roots: readonly ParsedCertificate[];
  peers: PeersJson;
}

/** The folder that `dir/current` names now. Throws `config-state` where nothing was delivered. */
export function currentFolder(dir: string): string {
  try {
    return resolve(dir, readlinkSync(resolve(dir, 'current')));
  } catch (cause) {
    throw new VouchError(
      'config-state',
      `${dir} holds no delivered certificate; run \`vouch enroll\` or \`vouch exec\``,
      {
        cause,
      },
    );
  }
}

/**
 * Reads the current generation. A swap that removes it between two reads is met by reading the next one. Throws
 * `config-state` where a file is missing or is not what it should be.
 */
export function readDelivered(dir: string): Delivered {
  for (let attempt = 1; ; attempt += 1) {
    const folder = currentFolder(dir);
    try {
      return readGeneration(folder);
    } catch (error) {
      if (attempt < 3 && currentFolder(dir) !== folder) continue;
      if (error instanceof VouchError && error.code.startsWith('config-')) throw error;
      throw new VouchError('config-state', `the delivered files in ${folder} are not whole; enroll again`, {
        cause: error,
      });
    }
  }
}

/** The DER of each CRL in crl.pem; none where `--crl allow-stale` delivered without. */
export function readCrls(folder: string): Buffer[] {
  const text = readFileSync(resolve(folder, fileNames.crl), 'utf8');
  return text.trim() === '' ? [] : decodePem(text, 'X509 CRL');
}

/** The DER of each CRL in crl-delta.pem: the issuers' deltas, and the full CRLs of CAs that have none. None without the file. */
export function readDeltas(folder: string): Buffer[] {
  return optionalPem(folder, fileNames.delta, 'X509 CRL');
}

function readGeneration(folder: string): Delivered {
  const text = (name: string) => readFileSync(resolve(folder, name), 'utf8');
  const chainPem = text(fileNames.chain);
  const bundlePem = text(fileNames.bundle);
  const [leaf, ...issuers] = decodePem(chainPem, 'CERTIFICATE').map(parseCertificate);
  if (leaf === undefined) throw new VouchError('config-state', `${folder}/svid.pem is empty; enroll again`);
  return {
    folder,
    chainPem,
    keyPem: text(fileNames.key),
    bundlePem,
    leaf,
    spiffeId: parseSpiffeId(leaf.uris[0] ?? ''),
    issuers,
    otherIssuers: otherIssuersIn(folder),
    roots: decodePem(bundlePem, 'CERTIFICATE').map(parseCertificate),
    peers: peersSchema.parse(JSON.parse(text(fileNames.peers))),
  };
}

function otherIssuersIn(folder: string): ParsedCertificate[] {
  return optionalPem(folder, fileNames.issuers, 'CERTIFICATE').map(parseCertificate);
}

function optionalPem(folder: string, name: string, label: 'CERTIFICATE' | 'X509 CRL'): Buffer[] {
  try {
    return decodePem(readFileSync(resolve(folder, name), 'utf8'), label);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
