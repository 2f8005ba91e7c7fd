import { bitString, explicit, implicit, integer, octetString, sequence, time } from '../../src/x509/der.ts';
import { algorithmIdentifier } from '../../src/x509/algorithm.ts';
import { emptyName, rdnName } from '../../src/x509/name.ts';
import { validatePath } from '../../src/x509/path.ts';
import {
  ecKey,
  freshSerial,
  makeIssuer,
  makeLeaf,
  makeRoot,
  nowMs,
  nowSeconds,
  signed,
  type TestAuthority,
  workloadId,
} from './authority.ts';
import { rawExtension } from './raw-certificate.ts';

/** A root, an issuer under it, a leaf under that. */
export const root = makeRoot();
export const issuer = makeIssuer(root);
export const leaf = makeLeaf(issuer);
/** CA rights without a limit. */
export const ca = { pathLength: undefined };

/** Validates now, against the root, unless told otherwise. */
export const validate = (
  chain: readonly Buffer[],
  roots: readonly Buffer[] = [root.der],
  at = nowMs,
  skewMs?: number,
): unknown => validatePath({ chain, roots, nowMs: at, skewMs });

/** A leaf of raw extensions under the issuer, signed. */
export function rawLeaf(extensions: readonly Buffer[], by: TestAuthority = issuer): Buffer {
  const key = ecKey();
  const keyIds = [
    rawExtension('2.5.29.14', octetString(Buffer.from(key.info.keyId, 'hex'))),
    rawExtension('2.5.29.35', sequence(implicit(0, Buffer.from(by.key.info.keyId, 'hex')))),
  ];
  const tbs = sequence(
    explicit(0, integer(2n)),
    integer(BigInt(`0x${freshSerial()}`)),
    algorithmIdentifier(by.key.algorithm),
    by.name,
    sequence(time(nowSeconds - 60), time(nowSeconds + 60)),
    emptyName,
    key.info.spki,
    explicit(3, sequence(...extensions, ...keyIds)),
  );
  return signed(tbs, by.key);
}

/** A good leaf's subjectAltName. */
export const san = rawExtension('2.5.29.17', sequence(implicit(6, Buffer.from(workloadId))), true);
/** A keyUsage extension of these bits. */
export const keyUsage = (bits: number, unused: number, critical = true): Buffer =>
  rawExtension('2.5.29.15', bitString(Buffer.from([bits]), unused), critical);
/** A good leaf's keyUsage. */
export const digitalSignature = keyUsage(0x80, 7);

/** A CA certificate of raw extensions under the root. */
export function rawCa(extensions: readonly Buffer[], withKeyId = true): TestAuthority {
  const key = ecKey();
  const name = rdnName({ commonName: 'raw' });
  const tbs = sequence(
    explicit(0, integer(2n)),
    integer(5n),
    algorithmIdentifier(root.key.algorithm),
    root.name,
    sequence(time(nowSeconds - 60), time(nowSeconds + 60)),
    name,
    key.info.spki,
    explicit(
      3,
      sequence(
        ...extensions,
        ...(withKeyId ? [rawExtension('2.5.29.14', octetString(Buffer.from(key.info.keyId, 'hex')))] : []),
        rawExtension('2.5.29.35', sequence(implicit(0, Buffer.from(root.key.info.keyId, 'hex')))),
      ),
    ),
  );
  return { key, name, der: signed(tbs, root.key) };
}
