import * as z from 'zod/mini';
import { parseSerial } from '../core/serial.ts';
import { entriesAnswerSchema } from './agent.ts';
import { base64Bytes } from './bytes.ts';
import { inclusionProofSchema } from './enrollment.ts';

// What the agent's sealed cache holds. It is read by the version that wrote it, or by another.

const unixMs = z.int().check(z.gte(0));

/** A certificate with its key. */
const cachedSvidSchema = z.looseObject({
  entryId: z.string(),
  entryVersion: z.int(),
  chain: z.array(base64Bytes(65_535)).check(z.minLength(1), z.maxLength(8)),
  keyPkcs8: base64Bytes(8192),
  serial: z.pipe(z.string(), z.transform(parseSerial)),
  issuerKeyId: z.string(),
  proof: inclusionProofSchema,
  renewal: z.object({ earliestMs: unixMs, latestMs: unixMs }),
});

/** Everything that is served and does not stand in files of its own. */
export const agentCacheSchema = z.looseObject({
  version: z.literal(1),
  savedAtMs: unixMs,
  ...entriesAnswerSchema.shape,
  svids: z.array(cachedSvidSchema),
});
/** As it is read: bytes decoded. */
export type AgentCache = z.output<typeof agentCacheSchema>;
/** As it is written. */
export type AgentCacheJson = z.input<typeof agentCacheSchema>;
