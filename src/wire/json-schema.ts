import * as z from 'zod/mini';
import { descriptions } from './enrollment-descriptions.ts';

/** What is read and written here of a JSON Schema. */
interface JsonSchema {
  description?: string;
  properties?: Record<string, JsonSchema>;
  items?: JsonSchema;
  anyOf?: JsonSchema[];
}

/** A schema as OpenAPI has it: what stands in JSON, before bytes are decoded, with its descriptions. */
export function schemaOf(schema: z.ZodMiniType): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  return describe(schema, rest as JsonSchema);
}

/** By place, not by zod's registry: one schema, such as a hash, means something else in each place. */
function describe(schema: unknown, json: JsonSchema): JsonSchema {
  if (schema instanceof z.ZodMiniOptional) return describe(schema.def.innerType, json);
  if (schema instanceof z.ZodMiniArray && json.items)
    return { ...json, items: describe(schema.def.element, json.items) };
  if (schema instanceof z.ZodMiniUnion && json.anyOf)
    return {
      ...json,
      anyOf: json.anyOf.map((option, index) => describe(schema.def.options[index], option)),
    };
  const said = schema instanceof z.ZodMiniObject ? descriptions.get(schema) : undefined;
  if (!(schema instanceof z.ZodMiniObject) || said === undefined) return json;
  const properties = Object.entries(json.properties ?? {}).map(([name, member]) => {
    const { description, ...rest } = describe(schema.shape[name], member);
    const text = [said.members[name], description].filter(Boolean).join(' ');
    return [name, { description: text, ...rest }] as const;
  });
  return { description: said.text, ...json, properties: Object.fromEntries(properties) };
}
