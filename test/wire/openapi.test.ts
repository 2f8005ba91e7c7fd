import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { openApiDocuments } from '../../src/wire/openapi.ts';

const version = (JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }).version;

test.each(Object.entries(openApiDocuments(version)))(
  'docs/%s says what the schemas say',
  (name, document) => {
    expect(JSON.parse(readFileSync(`docs/${name}`, 'utf8'))).toEqual(JSON.parse(JSON.stringify(document)));
  },
);

test('every route of the enrollment document refuses unknown members', () => {
  const { paths } = openApiDocuments(version)['openapi.json'] as {
    paths: Record<
      string,
      { post?: { requestBody?: { content: Record<string, { schema: { additionalProperties?: boolean } }> } } }
    >;
  };
  const bodies = Object.values(paths).flatMap(
    (path) => path.post?.requestBody?.content['application/json']?.schema ?? [],
  );
  expect(bodies.length).toBeGreaterThanOrEqual(3);
  for (const body of bodies) expect(body.additionalProperties).toBe(false);
});
