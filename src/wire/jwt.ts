import * as z from 'zod/mini';
import { isJwtAudience, jwtAudience } from '../core/jwt-svid.ts';

/** Path of the enrollment listener. */
export const jwtSvidsPath = '/v1/jwt-svids';

const audience = z.string().check(z.minLength(1), z.maxLength(jwtAudience.maxBytes), z.refine(isJwtAudience));

/** `POST /v1/jwt-svids`, over mTLS with an agent's certificate. */
export const jwtSvidRequestSchema = z.strictObject({
  entryId: z.string().check(z.regex(/^e_[0-9a-f]{16}$/)),
  audience: z.array(audience).check(z.minLength(1), z.maxLength(jwtAudience.most)),
});
export type JwtSvidRequest = z.output<typeof jwtSvidRequestSchema>;

/** Answer 200. */
export const jwtSvidAnswerSchema = z.strictObject({
  token: z
    .string()
    .check(z.regex(/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/), z.maxLength(32 * 1024)),
  expiresAt: z.string().check(z.regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)),
  spiffeId: z.string().check(z.maxLength(2048)),
});
export type JwtSvidAnswer = z.output<typeof jwtSvidAnswerSchema>;
