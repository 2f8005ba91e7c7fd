import path from 'node:path';
import * as z from 'zod/mini';
import { VouchError } from '../core/errors.ts';
import { signingKeyTypeNames } from '../x509/signing-key-type.ts';
import { printable } from '../wire/ceremony.ts';
import { hsm } from './config.ts';
import { listed, problemsOf } from './config-problem.ts';
import { parseDocument } from './document.ts';
import { duration, text } from './values.ts';

const file = text(4096);
const sha256 = z.string().check(z.regex(/^[0-9a-f]{64}$/, 'must be 64 lower-case hex digits'));
const label = text(64);
const nameText = text(64);
const operatorName = text(200).check(z.regex(printable, 'must be one printable line'));

/** A union says no more than that neither form fits. */
const keyForms = `must be {create: ${signingKeyTypeNames.join(' or ')}, label: text}, {use: {label: text}} or {use: {ckaId: "lower-case hex in quotes"}}`;

/** Makes a new key, under a label that no key of the token has yet. */
const keyToMake = z.strictObject({
  create: z.enum(signingKeyTypeNames),
  label: z._default(label, 'vouch-root'),
});

/** Takes a key that is in the token: by CKA_ID, lower-case hex, or by label. */
const keyToTake = z.strictObject({
  use: z.union(
    [
      z.strictObject({ ckaId: z.string().check(z.regex(/^(?:[0-9a-f]{2}){1,64}$/)) }),
      z.strictObject({ label }),
    ],
    keyForms,
  ),
});

const ceremonySchema = z.strictObject({
  /** Who is in the room, as the transcript names them. */
  operators: z.array(operatorName).check(z.minLength(1), z.maxLength(32)),
  /** Folder that the ceremony makes for its result. */
  out: file,
  root: z.strictObject({
    /** The root's token, as `hsm-sim/new-token` prints it. */
    hsm,
    key: z._default(z.union([keyToMake, keyToTake], keyForms), { create: 'ec-p384', label: 'vouch-root' }),
    /** Its certificate where it has one, PEM or DER; the key must be this certificate's. */
    certificate: z.optional(file),
    /** With `certificate`: makes a new one over the same key and name instead of going on with it. */
    reissue: z._default(z.boolean(), false),
    /** Name of a root certificate that is made; default: the trust domain, and `Vouch root` with its key id. */
    subject: z.optional(z.strictObject({ organization: z.optional(nameText), commonName: nameText })),
    /** Of a root certificate that is made. */
    lifetime: z.prefault(duration('36500d', '1d'), '3650d'),
  }),
  /** What `vouch init --issuer-csr-out` wrote. */
  request: z.optional(
    z.strictObject({
      file,
      /** As the authority's operator read it out: the request that was carried here must be this one. */
      sha256: z.optional(sha256),
    }),
  ),
  /** A new root CRL and statement in place of those that end. */
  renew: z.optional(
    z.strictObject({
      /** `/bundle.json` as it is served now: root and statement. */
      bundle: file,
      /** As it was read out on the authority's machine. */
      sha256: z.optional(sha256),
    }),
  ),
  /** Issuers that end: what `vouch ceremony --revoke-issuer` wrote. */
  revoke: z.optional(
    z.strictObject({
      file,
      /** As it was read out on the authority's machine. */
      sha256: z.optional(sha256),
    }),
  ),
  /** Also signs a CSR of the root's key, for a CA above that certifies it: `root.csr`. */
  rootCsr: z._default(z.boolean(), false),
  issuers: z.prefault(
    z.strictObject({
      lifetime: z.prefault(duration('3650d', '1h'), '90d'),
      /** How long before one ends the next one begins. */
      overlap: z.prefault(duration('3650d'), '30d'),
    }),
    {},
  ),
  crl: z.prefault(
    z.strictObject({
      lifetime: z.prefault(duration('3650d', '1d'), '365d'),
      /** The root's last CRL, PEM or DER: numbers rise and what is revoked stays so. `none`: there is none. */
      last: z.optional(file),
      /** Of `last`, as it was read out where the root's CRLs are published. */
      sha256: z.optional(sha256),
    }),
    {},
  ),
  statement: z.prefault(
    z.strictObject({
      lifetime: z.prefault(duration('3650d', '1d'), '365d'),
      /** Base URLs where CRLs, log and bundle are; default: the request's, or those of the last statement. */
      publicationUrls: z.optional(z.array(text(2048)).check(z.minLength(1), z.maxLength(16))),
    }),
    {},
  ),
});

/** A ceremony as its file declares it; paths are absolute. */
export type CeremonyFile = Readonly<z.output<typeof ceremonySchema>>;

/** Reads the file of a ceremony; paths in it are relative to its folder. Throws `config-invalid` with every problem. */
export function loadCeremonyFile(name: string): CeremonyFile {
  const parsed = z.safeParse(ceremonySchema, parseDocument(name, 'docs/ceremony.md shows one'));
  if (!parsed.success)
    throw new VouchError('config-invalid', `${name}: ${listed(parsed.error.issues.flatMap(problemsOf))}`);
  const problems = contradictions(parsed.data);
  if (problems.length > 0) throw new VouchError('config-invalid', `${name}: ${problems.join('; ')}`);
  return resolved(parsed.data, path.dirname(path.resolve(name)));
}

function contradictions({ request, renew, revoke, root, crl, issuers }: CeremonyFile): string[] {
  const takes = 'use' in root.key;
  const rules: [isWrong: boolean, problem: string][] = [
    [(request === undefined) === (renew === undefined), 'give one of request and renew'],
    [renew !== undefined && !takes, 'renew needs the key that signed before: root.key.use'],
    [renew !== undefined && root.certificate !== undefined, 'renew takes the certificate from the bundle'],
    [renew !== undefined && root.reissue, 'renew makes no new root certificate'],
    [revoke !== undefined && renew === undefined, 'revoke needs renew: the statement goes on with the CRL'],
    [root.certificate !== undefined && !takes, 'root.certificate is of a key that is there: root.key.use'],
    [root.reissue && root.certificate === undefined, 'root.reissue needs root.certificate'],
    [
      root.subject !== undefined && root.certificate !== undefined,
      "root.subject: the certificate's name stays",
    ],
    [
      crl.last === undefined && (renew !== undefined || root.certificate !== undefined),
      'crl.last: name the last CRL of this root, or `none` where it never signed one',
    ],
    [
      crl.sha256 !== undefined && (crl.last === undefined || crl.last === 'none'),
      'crl.sha256 is of crl.last',
    ],
    [crl.last === 'none' && renew !== undefined, 'crl.last: a root that is renewed has one'],
    [issuers.overlap >= issuers.lifetime, 'issuers.overlap must be shorter than issuers.lifetime'],
  ];
  return rules.flatMap(([isWrong, problem]) => (isWrong ? [problem] : []));
}

function resolved(ceremony: CeremonyFile, folder: string): CeremonyFile {
  const { root, request, renew, revoke, crl } = ceremony;
  const at = (name: string): string => path.resolve(folder, name);
  const last = crl.last === undefined || crl.last === 'none' ? undefined : at(crl.last);
  return {
    ...ceremony,
    out: at(ceremony.out),
    root: { ...root, certificate: root.certificate === undefined ? undefined : at(root.certificate) },
    request: request && { ...request, file: at(request.file) },
    renew: renew && { ...renew, bundle: at(renew.bundle) },
    revoke: revoke && { ...revoke, file: at(revoke.file) },
    crl: { ...crl, last },
  };
}
