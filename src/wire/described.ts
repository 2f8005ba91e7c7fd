import type * as z from 'zod/mini';

/** What an object means to whoever reads docs/openapi.json, and what each of its members does. CommonMark. */
export interface Description {
  text: string;
  members: Readonly<Record<string, string>>;
}

type Members<S extends z.ZodMiniObject> = Readonly<Record<keyof S['shape'] & string, string>>;

/** `text` describes the object where it stands alone; a member's own text comes before it. Complete by type. */
export function described<S extends z.ZodMiniObject>(
  schema: S,
  text: string,
  members: Members<S>,
): [z.ZodMiniType, Description] {
  return [schema, { text, members }];
}
