import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { type ErrorCode, VouchError } from '../../src/core/errors.ts';
import { problemOf } from '../../src/core/problem.ts';
import { openApiDocuments } from '../../src/wire/openapi.ts';

const version = (JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }).version;

const statusOf = (code: ErrorCode): number => problemOf(new VouchError(code, ''), 'peer').status;

test.each(Object.entries(openApiDocuments(version, statusOf)))(
  'docs/%s says what the schemas say',
  (name, document) => {
    expect(JSON.parse(readFileSync(`docs/${name}`, 'utf8'))).toEqual(JSON.parse(JSON.stringify(document)));
  },
);

test('every route of the enrollment document refuses unknown members', () => {
  const { paths } = openApiDocuments(version, statusOf)['openapi.json'] as {
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

interface Described {
  description?: string;
  properties?: Record<string, Described>;
  items?: Described;
  [member: string]: unknown;
}

/** Paths of members without a description. */
function silent(value: unknown, path: string): string[] {
  if (typeof value !== 'object' || value === null) return [];
  const { properties = {} } = value as Described;
  const here = Object.entries(properties).filter(([, { description }]) => !description);
  return [
    ...here.map(([name]) => `${path} ${name}`),
    ...Object.entries(value).flatMap(([name, member]) => silent(member, `${path}/${name}`)),
  ];
}

test('every member of the enrollment document says what it is', () => {
  const document = openApiDocuments(version, statusOf)['openapi.json'];
  expect(silent(document, '')).toEqual([]);
  expect(JSON.stringify(document)).toContain('EXPORTER-Channel-Binding');
});

test('every code stands at the status that the edge answers it with', () => {
  const { paths } = openApiDocuments(version, statusOf)['openapi.json'] as {
    paths: Record<string, Record<string, { responses: Record<string, Described> }>>;
  };
  const { responses } = paths['/v1/enroll']?.post ?? { responses: {} };
  expect(responses[409]?.description).toMatch(/`policy-key-conflict`/);
  expect(responses[429]).toMatchObject({ headers: { 'Retry-After': {} } });
  for (const [status, { description }] of Object.entries(responses))
    for (const [, code] of (description ?? '').matchAll(/^- `([a-z-]+)`/gm))
      expect([code, statusOf(code as ErrorCode)]).toEqual([code, Number(status)]);
});
