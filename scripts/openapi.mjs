#!/usr/bin/env node
// Writes docs/openapi.json and docs/openapi-admin.json from the wire schemas; with --check says whether they are current.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { VouchError } from '../src/core/errors.ts';
import { problemOf } from '../src/core/problem.ts';
import { openApiDocuments } from '../src/wire/openapi.ts';

const docs = new URL('../docs/', import.meta.url);
const version = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version;
const statusOf = (code) => problemOf(new VouchError(code, ''), 'peer').status;
let stale = false;
for (const [name, document] of Object.entries(openApiDocuments(version, statusOf))) {
  const file = fileURLToPath(new URL(name, docs));
  const text = `${JSON.stringify(document, null, 2)}\n`;
  if (process.argv.includes('--check')) stale ||= readFileSync(file, 'utf8') !== text;
  else writeFileSync(file, text);
}
if (stale) console.error('docs/openapi*.json do not say what the schemas say; run `npm run openapi`');
process.exitCode = stale ? 1 : 0;
