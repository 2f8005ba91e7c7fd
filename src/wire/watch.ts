import * as z from 'zod/mini';
import { parseSerial } from '../core/serial.ts';
import { base64Bytes } from './bytes.ts';

/** How often a stream says at least a comment; who hears nothing for three times as long takes it for dead. */
export const heartbeatSeconds = 5;

/** Largest patch of a CRL: head, entries and tail together, before base64. */
export const patchMaxBytes = 512 * 1024;

/** Largest event that a watcher reads, its lines together. */
export const eventMaxBytes = 2 * 1024 * 1024;

const number = z.int().check(z.gte(0));
const keyId = z.string().check(z.regex(/^[0-9a-f]{40}$/));
const serial = z.pipe(
  z.string().check(z.regex(/^(?:[0-9a-f]{2}){1,20}$/)),
  z.transform((text: string) => parseSerial(text)),
);

/** Member `patch` of a `crl` event. */
export const crlPatchSchema = z.looseObject({
  head: base64Bytes(64 * 1024),
  added: base64Bytes(patchMaxBytes),
  removed: z.array(serial).check(z.maxLength(patchMaxBytes / 2)),
  tail: base64Bytes(64 * 1024),
});

/** Event `crl`: a CRL that is published. */
export const crlEventSchema = z.looseObject({
  issuerKeyId: keyId,
  scope: z.enum(['full', 'delta']),
  crlNumber: number,
  from: z.nullable(number),
  url: z.string().check(z.maxLength(2048), z.regex(/^http:\/\//)),
  patch: z.optional(crlPatchSchema),
});
/** As the agent reads it: bytes decoded. */
export type CrlEvent = z.output<typeof crlEventSchema>;
/** As it stands in JSON. */
export type CrlEventJson = z.input<typeof crlEventSchema>;

/** Event `bundle`: the trust bundle has this sequence. */
export const bundleEventSchema = z.looseObject({ sequence: number });

/** Event `entry`: the registration entry of the certificate that was shown changed. */
export const entryEventSchema = z.looseObject({
  entryId: z.string().check(z.maxLength(64)),
  version: number,
  suspended: z.boolean(),
});

/** Event `entries`: the registration entries that name the holder as parent have this sequence. */
export const entriesEventSchema = z.looseObject({ sequence: number });

/** Event `renew`: the operator asks that the certificate be renewed now. */
export const renewEventSchema = z.looseObject({ reason: z.string().check(z.maxLength(256)) });

/**
 * Event `renew-workloads`, to agents: the operator asks that what they hold of this SPIFFE ID, entry or issuer, with a leaf
 * below `before`, be renewed within that time.
 */
export const renewWorkloadsEventSchema = z.looseObject({
  before: number,
  withinSeconds: number,
  spiffeId: z.optional(z.string().check(z.maxLength(2048))),
  entryId: z.optional(z.string().check(z.maxLength(64))),
  issuerKeyId: z.optional(keyId),
});
export type RenewWorkloads = z.output<typeof renewWorkloadsEventSchema>;

/** An event that this version knows. */
export type WatchEvent =
  | { type: 'crl'; event: CrlEvent }
  | { type: 'bundle'; event: z.output<typeof bundleEventSchema> }
  | { type: 'entry'; event: z.output<typeof entryEventSchema> }
  | { type: 'entries'; event: z.output<typeof entriesEventSchema> }
  | { type: 'renew'; event: z.output<typeof renewEventSchema> }
  | { type: 'renew-workloads'; event: RenewWorkloads };

const schemas = {
  crl: crlEventSchema,
  bundle: bundleEventSchema,
  entry: entryEventSchema,
  entries: entriesEventSchema,
  renew: renewEventSchema,
  'renew-workloads': renewWorkloadsEventSchema,
} as const;

/** Reads an event's JSON. Undefined for a type or form that this version does not know: a newer server may send it. */
export function readEvent(type: string, text: string): WatchEvent | undefined {
  if (!Object.hasOwn(schemas, type)) return undefined;
  try {
    const event: unknown = schemas[type as keyof typeof schemas].parse(JSON.parse(text));
    return { type, event } as WatchEvent;
  } catch {
    return undefined;
  }
}
