import type { Json } from '../core/canonical-json.ts';
import { decodeJsonBody, type Leaf } from '../log/leaf.ts';

/** Members of a leaf's JSON body; one that is not there is undefined. */
export type JsonBody = { readonly [member: string]: Json | undefined };

/** Reads the body of a token, entry, authority or operator leaf. Throws `integrity-log`; no object reads as an empty one. */
export function bodyOf(leaf: Leaf): JsonBody {
  const body = decodeJsonBody(leaf.body);
  return typeof body === 'object' && body !== null && !Array.isArray(body) ? (body as JsonBody) : {};
}

/** A member that must be text, as ids are; anything else names nothing. */
export function textOf(member: Json | undefined): string {
  return typeof member === 'string' ? member : '';
}
