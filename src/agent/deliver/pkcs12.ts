import { createCipheriv, createHmac, hash, pbkdf2 } from 'node:crypto';
import { promisify } from 'node:util';
import { Slice } from '../../jobs/slice.ts';
import {
  explicit,
  implicit,
  integer,
  nullValue,
  octetString,
  oid,
  sequence,
  set,
  tlv,
} from '../../x509/der.ts';
import { oids } from '../../x509/oids.ts';

/** What a PKCS#12 file is made of; certificates and key in DER. */
export interface Pkcs12Content {
  /** Key (PKCS#8) and its chain, leaf first; undefined: a store of trusted certificates alone. */
  identity: { keyPkcs8: Buffer; chain: readonly Buffer[] } | undefined;
  /** What Java takes for trusted: entries of their own there, certificates like others to everybody else. */
  trusted: readonly Buffer[];
  /** Printable ASCII. */
  password: string;
  /** Secret bytes that salts and IVs are derived from: the same content yields the same file, which so need not be written again. */
  seed: Buffer;
}

/**
 * Of both key derivations: what Java writes. The MAC's is older than PBKDF2 and just as quick to try passwords against, so
 * that more for the other alone would buy nothing; and each reload pays for three.
 */
const iterations = 10_000;
/** Names of entries. They stay, so that a configuration can name them. */
const identityAlias = 'svid';
const trustedAlias = (index: number): string => `ca-${index + 1}`;

const types = {
  data: '1.2.840.113549.1.7.1',
  encryptedData: '1.2.840.113549.1.7.6',
  shroudedKeyBag: '1.2.840.113549.1.12.10.1.2',
  certificateBag: '1.2.840.113549.1.12.10.1.3',
  x509Certificate: '1.2.840.113549.1.9.22.1',
  friendlyName: '1.2.840.113549.1.9.20',
  localKeyId: '1.2.840.113549.1.9.21',
  /** Oracle's; without it Java knows a certificate only as part of a chain. */
  trustedKeyUsage: '2.16.840.1.113894.746875.1.1',
  anyExtendedKeyUsage: '2.5.29.37.0',
  pbes2: '1.2.840.113549.1.5.13',
  pbkdf2: '1.2.840.113549.1.5.12',
  hmacWithSha256: '1.2.840.113549.2.9',
  aes256Cbc: '2.16.840.1.101.3.4.1.42',
} as const;

const derive = promisify(pbkdf2);

/**
 * DER of a PFX (RFC 7292): PBES2 with PBKDF2-HMAC-SHA-256 and AES-256-CBC (RFC 8018) for the key and for the certificates,
 * HMAC-SHA-256 over all of it. Nothing here blocks for more than a slice.
 */
export async function pkcs12({ identity, trusted, password, seed }: Pkcs12Content): Promise<Buffer> {
  const [leaf, ...issuers] = identity?.chain ?? [];
  const keyId = leaf && attribute(types.localKeyId, octetString(hash('sha1', leaf, 'buffer')));
  const named = keyId === undefined ? [] : [friendlyName(identityAlias), keyId];
  const certificates = sequence(
    ...(leaf ? [certificateBag(leaf, named)] : []),
    ...issuers.map((der) => certificateBag(der, [])),
    ...trusted.map((der, index) => certificateBag(der, [friendlyName(trustedAlias(index)), isTrusted])),
  );
  const contents = [await encryptedData(certificates, { password, seed })];
  if (identity !== undefined) {
    const { algorithm, ciphertext } = await encrypted(identity.keyPkcs8, { password, seed });
    const shrouded = sequence(algorithm, octetString(ciphertext));
    contents.push(data(sequence(bag(types.shroudedKeyBag, shrouded, named))));
  }
  const authenticated = sequence(...contents);
  return sequence(integer(3n), data(authenticated), await macData(authenticated, { password, seed }));
}

interface Secrets {
  password: string;
  seed: Buffer;
}

/** EncryptedData (RFC 5652 §8) in a ContentInfo. */
async function encryptedData(content: Buffer, secrets: Secrets): Promise<Buffer> {
  const { algorithm, ciphertext } = await encrypted(content, secrets);
  const info = sequence(oid(types.data), algorithm, implicit(0, ciphertext));
  return sequence(oid(types.encryptedData), explicit(0, sequence(integer(0n), info)));
}

async function encrypted(
  content: Buffer,
  { password, seed }: Secrets,
): Promise<{ algorithm: Buffer; ciphertext: Buffer }> {
  const drawn = drawnFrom(seed, 'pbes2', password, content);
  const [salt, iv] = [drawn.subarray(0, 16), drawn.subarray(16)];
  const key = await derive(Buffer.from(password, 'ascii'), salt, iterations, 32, 'sha256');
  const cipher = createCipheriv('aes-256-cbc', key, iv);
  const parameters = sequence(
    octetString(salt),
    integer(BigInt(iterations)),
    integer(32n),
    sequence(oid(types.hmacWithSha256), nullValue),
  );
  const algorithm = sequence(
    oid(types.pbes2),
    sequence(sequence(oid(types.pbkdf2), parameters), sequence(oid(types.aes256Cbc), octetString(iv))),
  );
  return { algorithm, ciphertext: Buffer.concat([cipher.update(content), cipher.final()]) };
}

async function macData(authenticated: Buffer, { password, seed }: Secrets): Promise<Buffer> {
  const salt = drawnFrom(seed, 'mac', password, authenticated).subarray(0, 16);
  const mac = createHmac('sha256', await macKey(password, salt))
    .update(authenticated)
    .digest();
  const digest = sequence(sequence(oid(oids.sha256), nullValue), octetString(mac));
  return sequence(digest, octetString(salt), integer(BigInt(iterations)));
}

/** RFC 7292 appendix B.2 for one block of SHA-256: u = 32, v = 64, ID 3 (B.3). */
async function macKey(password: string, salt: Buffer): Promise<Buffer> {
  const parts = [Buffer.alloc(64, 3), filled(salt), filled(Buffer.concat([bmp(password), Buffer.alloc(2)]))];
  let block: Buffer = Buffer.concat(parts);
  const slice = new Slice();
  for (let round = 0; round < iterations; round += 1) {
    block = hash('sha256', block, 'buffer');
    if (slice.isOver) await slice.turn();
  }
  return block;
}

/** Repeated to a multiple of 64 bytes. */
function filled(bytes: Buffer): Buffer {
  return Buffer.alloc(64 * Math.ceil(bytes.length / 64), bytes);
}

/** 32 bytes that look random to whoever has not the seed, and are others for other content, password or purpose. */
function drawnFrom(seed: Buffer, purpose: string, password: string, content: Buffer): Buffer {
  return createHmac('sha256', seed).update(`${purpose}\0${password}\0`).update(content).digest();
}

function data(content: Buffer): Buffer {
  return sequence(oid(types.data), explicit(0, octetString(content)));
}

function certificateBag(der: Buffer, attributes: readonly Buffer[]): Buffer {
  return bag(
    types.certificateBag,
    sequence(oid(types.x509Certificate), explicit(0, octetString(der))),
    attributes,
  );
}

function bag(type: string, value: Buffer, attributes: readonly Buffer[]): Buffer {
  return sequence(oid(type), explicit(0, value), ...(attributes.length > 0 ? [set(...attributes)] : []));
}

function attribute(type: string, value: Buffer): Buffer {
  return sequence(oid(type), set(value));
}

const isTrusted = attribute(types.trustedKeyUsage, oid(types.anyExtendedKeyUsage));

function friendlyName(text: string): Buffer {
  return attribute(types.friendlyName, tlv(0x1e, bmp(text)));
}

/** Big-endian UTF-16 (BMPString). */
function bmp(text: string): Buffer {
  return Buffer.from(text, 'utf16le').swap16();
}
