import { assembleSigned } from '../../src/x509/certificate-tbs.ts';
import { parseCsr, verifyCsr } from '../../src/x509/csr.ts';
import { explicit, implicit, integer, oid, sequence, set } from '../../src/x509/der.ts';
import { emptyName } from '../../src/x509/name.ts';
import { ecKey, signatureOver, type TestKey } from './authority.ts';
import { rawExtension } from './raw-certificate.ts';

/** The key that signs every CSR here unless changed. */
export const key = ecKey();
/** URI as GeneralName. */
export const uri = (text: string): Buffer => implicit(6, Buffer.from(text, 'latin1'));
/** dNSName as GeneralName. */
export const dns = (text: string): Buffer => implicit(2, Buffer.from(text, 'latin1'));
/** A subjectAltName extension. */
export const san = (...names: readonly Buffer[]): Buffer =>
  rawExtension('2.5.29.17', sequence(Buffer.concat(names)));
/** The attribute that asks for extensions. */
export const extensionRequest = (...extensions: readonly Buffer[]): Buffer =>
  sequence(oid('1.2.840.113549.1.9.14'), set(sequence(...extensions)));

/** A signed CSR of any fields; `attributes` undefined leaves them out. */
export function rawCsr(
  change: {
    version?: Buffer;
    subject?: Buffer;
    spki?: Buffer;
    attributes?: Buffer | undefined;
    key?: TestKey;
  } = {},
): Buffer {
  const signer = change.key ?? key;
  const attributes = 'attributes' in change ? change.attributes : explicit(0);
  const info = sequence(
    change.version ?? integer(0n),
    change.subject ?? emptyName,
    change.spki ?? signer.info.spki,
    ...(attributes ? [attributes] : []),
  );
  return assembleSigned(info, signer.algorithm, signatureOver(info, signer));
}

/** A CSR that asks for these extensions. */
export const csrWith = (...extensions: readonly Buffer[]): Buffer =>
  rawCsr({ attributes: explicit(0, extensionRequest(...extensions)) });

/** What the server does with a CSR. */
export const answer = (csr: Buffer): unknown => verifyCsr(parseCsr(csr));
