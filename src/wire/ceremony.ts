import * as z from 'zod/mini';
import { issuerReasons } from '../core/reasons.ts';

// What crosses the gap between the machine of the root and that of the authority, in either direction.

/** One line without what moves a cursor, hides or reorders text: people read it before they say yes. */
export const printable = /^[^\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]*$/u;
const text = (most: number) =>
  z.string().check(z.minLength(1), z.maxLength(most), z.regex(printable, 'must be one printable line'));
const hex = (bytes: number) => z.string().check(z.regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`)));
const base64 = (most: number) =>
  z
    .string()
    .check(z.maxLength(most), z.regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/));
const time = z.string().check(z.regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/));
const many = <T extends z.ZodMiniType>(item: T, most: number) =>
  z.array(item).check(z.minLength(1), z.maxLength(most));
const sha256 = hex(32);
const keyId = hex(20);

/** Most issuers of one request: the first and 15 that follow it. */
export const requestIssuersMost = 16;

/** What the authority asks of the root: `vouch init --issuer-csr-out` writes it. */
export const ceremonyRequestSchema = z.strictObject({
  version: z.literal(1),
  kind: z.literal('vouch-ceremony-request'),
  stateId: hex(16),
  createdAt: time,
  trustDomain: text(255),
  publicationUrl: text(2048),
  /** First byte of every serial of this trust domain. */
  serialPrefix: z.int().check(z.gte(1), z.lte(127)),
  /** Host names that the issuers may certify in URIs; empty: no constraint. */
  permittedUriDomains: z.array(text(255)).check(z.maxLength(1)),
  logOrigin: text(512),
  /** The first one is to sign now, the others in turn. Each a PKCS#10 request in PEM, signed with its own key. */
  issuers: many(z.strictObject({ csr: z.string().check(z.maxLength(24_000)) }), requestIssuersMost),
  /** The first one signs the log; others stand by. `proof`: that key's signature over this request without proofs. */
  logKeys: many(
    z.strictObject({
      algorithm: z.enum(['ed25519', 'ecdsa-p256']),
      publicKeySpki: base64(400),
      proof: base64(400),
    }),
    4,
  ),
});
/** As it stands in the file. */
export type CeremonyRequestJson = z.output<typeof ceremonyRequestSchema>;

const reason = z.enum(issuerReasons);

/** What the authority asks of the root for issuers that end: `vouch ceremony --revoke-issuer` writes it. */
export const issuerRevocationsSchema = z.strictObject({
  version: z.literal(1),
  kind: z.literal('vouch-issuer-revocations'),
  createdAt: time,
  trustDomain: text(255),
  issuers: many(
    z.strictObject({
      /** DER of the issuer's certificate. */
      certificate: base64(8_000),
      reason,
      /** Since when its key may have been in other hands. */
      invalidityDate: z.optional(time),
      /** How many certificates of it had not expired when this was written: all of them end. */
      unexpired: z.int().check(z.gte(0)),
    }),
    requestIssuersMost,
  ),
});
/** As it stands in the file. */
export type IssuerRevocationsJson = z.output<typeof issuerRevocationsSchema>;

const revokedSchema = z.strictObject({
  keyId,
  serial: text(40),
  reason,
  /** As the CRL has it. */
  revokedAt: time,
  invalidityDate: z.optional(time),
});

const signedSchema = z.strictObject({
  /** When its hash was on disk, before it was signed. */
  at: time,
  kind: z.enum(['root-certificate', 'root-crl', 'issuer-certificate', 'root-csr', 'statement']),
  /** File of the result that holds it. */
  file: text(100),
  /** Of what was signed: the TBS, of a CSR the CertificationRequestInfo, of a statement the JWS signing input. */
  tbsSha256: sha256,
  /** Of a certificate: the key in it. */
  keyId: z.optional(keyId),
  serial: z.optional(text(40)),
  /** Of a certificate its validity, of a CRL its updates, of a statement its end; a CSR has none. */
  notBefore: z.optional(time),
  notAfter: z.optional(time),
  /** CRL number in decimal, or the statement's sequence. */
  number: z.optional(text(50)),
  /** Of a CRL: the issuers that it is the first to list, or to list so. */
  revoked: z.optional(many(revokedSchema, requestIssuersMost)),
});

const fileSchema = z.strictObject({ name: text(255), sha256 });

/** transcript.json: what the root signed, when, for whom. */
export const transcriptSchema = z.strictObject({
  version: z.literal(1),
  kind: z.enum(['ceremony', 'renewal']),
  trustDomain: text(255),
  software: text(100),
  operators: many(text(200), 32),
  startedAt: time,
  finishedAt: time,
  root: z.strictObject({
    keyId,
    /** `sha256:` and the hash of its SubjectPublicKeyInfo. */
    pin: text(71),
    ckaId: text(128),
    /** Whether the ceremony made the key or its certificate; else they were there. */
    keyMade: z.boolean(),
    certificateMade: z.boolean(),
    token: z.strictObject({ label: text(32), serial: text(16) }),
  }),
  inputs: many(fileSchema, 8),
  signed: many(signedSchema, 32),
  outputs: many(fileSchema, 32),
});
/** What a dry run has shown, beside the result's folder; a hash is null where the root's key was yet to be made. */
export const planSchema = z.strictObject({
  version: z.literal(1),
  time,
  inputs: many(fileSchema, 8),
  serials: z.array(hex(17)).check(z.maxLength(requestIssuersMost + 1)),
  tbsSha256: many(z.nullable(sha256), 32),
});
/** As it stands in the file. */
export type CeremonyPlanJson = z.output<typeof planSchema>;

/** What a transcript says. */
export type Transcript = z.output<typeof transcriptSchema>;
/** One thing that the root signed. */
export type TranscriptItem = z.output<typeof signedSchema>;

/** Six certificates in PEM, long ones. */
export const chainMaxChars = 64_000;

/** `vouch ceremony --chain-in`, over the admin socket: PEM, the cross-certificate first. */
export const chainSchema = z.strictObject({ chain: z.string().check(z.maxLength(chainMaxChars)) });

const entry = z.strictObject({ name: text(100), content: base64(200_000) });

/** `vouch ceremony --import`, over the admin socket: the files of the result. */
export const importSchema = z.strictObject({ files: many(entry, 40) });
