import * as z from 'zod/mini';

/** Paths of the admin socket. */
export const adminPaths = {
  status: '/v1/status',
  tokens: '/v1/tokens',
  tokenRevoke: '/v1/tokens/revoke',
  certificates: '/v1/certificates',
  certificate: '/v1/certificates/:serial',
  renewNow: '/v1/certificates/renew-now',
  explain: '/v1/explain/:serial',
  entries: '/v1/entries',
  entry: '/v1/entries/:entry',
  entryDelete: '/v1/entries/delete',
  entryResume: '/v1/entries/resume',
  revocations: '/v1/revocations',
  revocationPreview: '/v1/revocations/preview',
  massRevocation: '/v1/mass-revocations/:leaf',
  releases: '/v1/releases',
  crls: '/v1/crls',
  crlPublish: '/v1/crls/publish',
  backup: '/v1/backup',
  ceremonyImport: '/v1/ceremony/import',
  ceremonyChain: '/v1/ceremony/chain',
  clockAccept: '/v1/clock/accept',
  signerRetry: '/v1/signer/retry',
  audit: '/v1/audit',
} as const;

/** Largest body the admin socket reads. */
export const adminMaxBytes = 256 * 1024;

const text = z.string().check(z.minLength(1), z.maxLength(2048));
const texts = z._default(z.array(text).check(z.maxLength(100)), []);
const count = z.int().check(z.gte(1));

/** Ids as the server makes them. A message never repeats what is none: it may be a token, pasted in the wrong place. */
export const adminGrammars = {
  tokenId: /^t_[0-9a-f]{16}$/,
  entryId: /^e_[0-9a-f]{16}$/,
  operator: /^uid:\d{1,10}$/,
} as const;
const tokenId = z.string().check(z.regex(adminGrammars.tokenId));
const entryId = z.string().check(z.regex(adminGrammars.entryId));

/** `vouch token create`. */
export const createTokenSchema = z.strictObject({
  spiffeId: text,
  dnsNames: texts,
  ipAddresses: texts,
  allowedClients: texts,
  cidrs: texts,
  ttlSeconds: z._default(count, 600),
  uses: z._default(count, 1),
  lifetimeSeconds: z.optional(count),
});

/** `vouch token revoke`. */
export const revokeTokenSchema = z.strictObject({ tokenId });

/** `FROM..TO`, RFC 3339 in UTC, both inclusive; without TO until now. */
const issuedBetween = z.string().check(z.regex(/^[0-9TZ:.-]{20,50}$/));
/** Of one member that says by what, narrowed to what was issued then. */
const narrowed = { issuedBetween: z.optional(issuedBetween) };

/** What `vouch revoke` ends; one member, which all but `serial` may narrow by time. */
const targetSchema = z.union([
  z.strictObject({ serial: text, only: z._default(z.boolean(), false) }),
  z.strictObject({ id: text, ...narrowed }),
  z.strictObject({ token: tokenId, ...narrowed }),
  z.strictObject({ entry: entryId, ...narrowed }),
  z.strictObject({ agent: text, ...narrowed }),
  z.strictObject({ node: text, ...narrowed }),
  z.strictObject({ operator: z.string().check(z.regex(adminGrammars.operator)), ...narrowed }),
  z.strictObject({ issuedBetween }),
]);
/** As the CLI writes it. */
export type RevocationTargetJson = z.input<typeof targetSchema>;

/** `vouch revoke` without doing it; the reason `removeFromCRL` stands for `vouch release`. */
export const previewSchema = z.strictObject({
  target: targetSchema,
  reason: z._default(text, 'unspecified'),
});

/** `vouch revoke`. */
export const revokeSchema = z.strictObject({
  target: targetSchema,
  reason: text,
  /** RFC 3339 in UTC. */
  invalidityDate: z.optional(text),
});

/** `vouch release`. */
export const releaseSchema = z.strictObject({ target: targetSchema });

/** `vouch entry create`. */
export const createEntrySchema = z.strictObject({
  spiffeId: text,
  parentId: text,
  selectors: z
    .array(z.string().check(z.minLength(1), z.maxLength(5000)))
    .check(z.minLength(1), z.maxLength(32)),
  dnsNames: texts,
  ipAddresses: texts,
  allowedClients: texts,
  hint: z._default(z.string().check(z.maxLength(1024)), ''),
  profile: z._default(text, 'default'),
  lifetimeSeconds: z.optional(count),
});

/** `vouch entry delete`. */
export const deleteEntrySchema = z.strictObject({ entryId });

/** `vouch entry resume`, by entry or by SPIFFE ID. */
export const resumeSchema = z.union([z.strictObject({ entryId }), z.strictObject({ spiffeId: text })]);

/** `vouch cert renew-now`, by SPIFFE ID, entry or issuer. */
export const renewNowSchema = z.union([
  z.strictObject({ id: text }),
  z.strictObject({ entry: entryId }),
  z.strictObject({ issuer: z.string().check(z.regex(/^[0-9a-f]{40}$/)) }),
]);
/** As the CLI writes it. */
export type RenewNowJson = z.input<typeof renewNowSchema>;

/** `vouch backup`. */
export const backupSchema = z.strictObject({ file: text.check(z.regex(/^\//)) });

/** Verbs without arguments. */
export const emptySchema = z.strictObject({});

/** Query of the lists. */
export const pageSchema = z.strictObject({
  after: z.optional(text),
  limit: z._default(z.pipe(z.string().check(z.regex(/^[1-9]\d{0,3}$/)), z.transform(Number)), 100),
  id: z.optional(text),
  token: z.optional(tokenId),
  parent: z.optional(text),
});
