import { algorithmIdentifier } from '../../src/x509/algorithm.ts';
import { boolean, explicit, integer, octetString, oid, sequence, time } from '../../src/x509/der.ts';
import { emptyName, rdnName } from '../../src/x509/name.ts';
import { ecKey, nowSeconds } from './authority.ts';

/** Every field of a TBSCertificate as bytes, so that a test can break each; undefined leaves a field out. */
export interface RawTbs {
  version: Buffer | undefined;
  serial: Buffer;
  algorithm: Buffer;
  issuer: Buffer;
  validity: Buffer;
  subject: Buffer;
  spki: Buffer;
  /** Between key and extensions: unique ids. */
  between: Buffer;
  extensions: Buffer | undefined;
}

const spki = ecKey().info.spki;

/** A well-formed TBSCertificate but for what is changed. */
export function rawTbs(change: Partial<RawTbs> = {}): Buffer {
  const fields: RawTbs = {
    version: explicit(0, integer(2n)),
    serial: integer(0x0123456789n),
    algorithm: algorithmIdentifier('ecdsa-sha256'),
    issuer: rdnName({ commonName: 'issuer' }),
    validity: sequence(time(nowSeconds), time(nowSeconds + 3600)),
    subject: emptyName,
    spki,
    between: Buffer.alloc(0),
    extensions: explicit(3, sequence(rawExtension('2.5.29.19', sequence(), true))),
    ...change,
  };
  return sequence(...Object.values(fields).filter((field): field is Buffer => field !== undefined));
}

/** A well-formed TBSCertificate with these extensions. */
export function tbsWith(...extensions: readonly Buffer[]): Buffer {
  return rawTbs({ extensions: explicit(3, sequence(...extensions)) });
}

/** One Extension. */
export function rawExtension(type: string, value: Buffer, critical = false): Buffer {
  return critical
    ? sequence(oid(type), boolean(true), octetString(value))
    : sequence(oid(type), octetString(value));
}
