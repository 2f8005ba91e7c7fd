import * as z from 'zod/mini';
import { VouchError } from '../core/errors.ts';
import { parseTrustDomain, type TrustDomain } from '../core/spiffe-id.ts';

const prefix = 'vouch1.';

/** Longest line a join file may hold. */
export const joinFileMaxBytes = 8192;

/** The pin of a root: `sha256:` and the lower-case hex SHA-256 of its DER SubjectPublicKeyInfo. */
export const pinGrammar = /^sha256:[0-9a-f]{64}$/;

const count = z.int().check(z.gte(0));
const joinFileSchema = z.strictObject({
  /** The enrollment URL: https, host and port only. */
  server: z.string().check(z.maxLength(2048)),
  trustDomain: z.string().check(z.maxLength(255)),
  pin: z.string().check(z.regex(pinGrammar)),
  token: z.string().check(z.regex(/^vjt_[A-Za-z0-9_-]{24,128}$/)),
  /** What the server had reached when the file was made: nothing older is accepted (I9). */
  floor: z.strictObject({ statement: count, bundle: count, treeSize: count }),
});

/** What a fresh workload knows of its authority. `token` is a secret: never printed. */
export interface JoinFile {
  /** `https://host:port`, without path. */
  server: string;
  trustDomain: TrustDomain;
  /** `sha256:<hex of SHA-256 of the root's SubjectPublicKeyInfo>`. */
  pin: string;
  token: string;
  floor: { statement: number; bundle: number; treeSize: number };
}

/** The one line of a join file, without newline. */
export function formatJoinFile(join: JoinFile): string {
  const { server, trustDomain, pin, token, floor } = join;
  const json = JSON.stringify({ server: parseServerUrl(server), trustDomain, pin, token, floor });
  return `${prefix}${Buffer.from(json).toString('base64url')}`;
}

/** Parses a join file's text. Throws `config-invalid`, never with any of its content. */
export function parseJoinFile(text: string): JoinFile {
  const line = text.trimEnd();
  if (Buffer.byteLength(text) > joinFileMaxBytes) throw refuse('is longer than 8 KiB');
  if (!line.startsWith(prefix)) throw refuse('does not start with vouch1.');
  const encoded = line.slice(prefix.length);
  if (!/^[A-Za-z0-9_-]+$/.test(encoded))
    throw refuse('is not one line of base64url; it may have been cut or wrapped');
  const parsed = joinFileSchema.safeParse(parseJson(Buffer.from(encoded, 'base64url').toString('utf8')));
  if (!parsed.success) throw refuse('does not have the members of a join file; it may have been cut');
  const { server, trustDomain, ...rest } = parsed.data;
  return { server: parseServerUrl(server), trustDomain: parseTrustDomain(trustDomain), ...rest };
}

/** An enrollment URL as `https://host[:port]`. Throws `config-invalid` for another scheme, a path or credentials. */
export function parseServerUrl(text: string): string {
  const url = URL.parse(text);
  if (
    url?.protocol !== 'https:' ||
    url.username ||
    url.password ||
    url.search ||
    url.hash ||
    url.pathname !== '/'
  )
    throw new VouchError('config-invalid', 'the server URL must be https://host:port, nothing more');
  return url.origin;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function refuse(why: string): VouchError {
  return new VouchError('config-invalid', `the join file ${why}; make a new one with \`vouch token create\``);
}
