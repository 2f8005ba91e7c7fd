import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import path from 'node:path';
import type { Serial } from '../core/serial.ts';
import { serverSpiffeId, type TrustDomain } from '../core/spiffe-id.ts';
import type { Issuance } from '../issuance/issue.ts';
import { defaultProfile } from '../issuance/profile.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { decodePem, encodePem } from '../x509/pem.ts';
import { importPublicKey } from '../x509/public-key.ts';

/** The server's TLS identity as PEM: leaf, issuer and root in one, and its key. */
export interface ServerCertificate {
  certificatePem: string;
  keyPem: string;
  issuerKeyId: string;
  serial: Serial;
  notBeforeMs: number;
  notAfterMs: number;
  /** When to get the next one. */
  renewAtMs: number;
}

/** Lifetime of the server's own certificate: a day, so that a signer that is away for hours closes no listener. */
const lifetimeSeconds = 24 * 3600;

/**
 * The stored certificate, or undefined where there is none, a crash left half of it, it is not for these names, or it
 * is about to expire.
 */
export function storedServerCertificate(
  ...asked: Parameters<typeof readServerCertificate>
): ServerCertificate | undefined {
  try {
    return readServerCertificate(...asked);
  } catch {
    return undefined;
  }
}

function readServerCertificate(
  files: { certificate: string; key: string },
  names: readonly string[],
  issuerKeyIds: readonly string[],
  nowMs: number,
): ServerCertificate | undefined {
  if (!existsSync(files.certificate) || !existsSync(files.key)) return undefined;
  const certificatePem = readFileSync(files.certificate, 'utf8');
  const keyPem = readFileSync(files.key, 'utf8');
  const leafDer = decodePem(certificatePem, 'CERTIFICATE')[0];
  if (!leafDer) return undefined;
  const leaf = parseCertificate(leafDer);
  const sameNames = [...leaf.dnsNames, ...leaf.ipAddresses].sort().join() === [...names].sort().join();
  const spki = publicKeyOf(createPrivateKey(keyPem));
  if (
    !sameNames ||
    !issuerKeyIds.includes(leaf.authorityKeyId ?? '') ||
    !spki.equals(leaf.spki) ||
    leaf.notAfterMs < nowMs + 60_000
  )
    return undefined;
  return {
    certificatePem,
    keyPem,
    issuerKeyId: leaf.authorityKeyId ?? '',
    serial: leaf.serial,
    notBeforeMs: leaf.notBeforeMs,
    notAfterMs: leaf.notAfterMs,
    renewAtMs: (leaf.notBeforeMs + leaf.notAfterMs) / 2,
  };
}

/** Issues the server's own certificate by the same road as any other, with a fresh key, and stores both. */
export async function issueServerCertificate(parts: {
  issuance: Issuance;
  trustDomain: TrustDomain;
  /** Hosts of the public URLs: DNS names and addresses. */
  names: readonly string[];
  /** DER, issuer first, root last: what is above what this issuer issues. */
  authoritiesOf: (issuerKeyId: string) => readonly Buffer[];
  files: { certificate: string; key: string };
}): Promise<ServerCertificate> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issued = await parts.issuance.issue({
    names: {
      spiffeId: serverSpiffeId(parts.trustDomain),
      dnsNames: parts.names.filter((name) => isIP(name) === 0),
      ipAddresses: parts.names.filter((name) => isIP(name) !== 0),
    },
    publicKey: importPublicKey(publicKeyOf(privateKey)),
    profile: { ...defaultProfile, name: 'server', lifetimeSeconds },
    lifetimeSeconds,
    entry: undefined,
    tokenId: undefined,
    predecessor: undefined,
    decision: { kind: 'server-certificate', names: [...parts.names] },
  });
  const { notBeforeMs, notAfterMs, serial, issuerKeyId } = issued.record;
  const certificatePem = [issued.der, ...parts.authoritiesOf(issuerKeyId)]
    .map((der) => encodePem('CERTIFICATE', der))
    .join('');
  const keyPem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  mkdirSync(path.dirname(parts.files.key), { recursive: true, mode: 0o700 });
  replaceFile(parts.files.key, keyPem);
  replaceFile(parts.files.certificate, certificatePem);
  return {
    certificatePem,
    keyPem,
    issuerKeyId,
    serial,
    notBeforeMs,
    notAfterMs,
    renewAtMs: (notBeforeMs + notAfterMs) / 2,
  };
}

function publicKeyOf(key: KeyObject): Buffer {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}

function replaceFile(file: string, text: string): void {
  writeFileSync(`${file}.new`, text, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}
