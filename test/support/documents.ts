import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const project = resolve(import.meta.dirname, '../..');

/** What stands in a fenced block of a document in `docs/`, the block named after its fence: ```` ```sh ````, ```` ```python server.py ````. */
export function blockOf(document: string, name: string): string {
  const [, block] = readDocument(document).split(`\n\`\`\`${name}\n`);
  if (block === undefined) throw new Error(`docs/${document} has no block ${name}`);
  return block.slice(0, block.indexOf('\n```') + 1);
}

/** The line of a document's `sh` blocks that runs `program`, as words, after `put` has put things of the test's in the place of the document's. */
export function commandOf(document: string, program: string, put: (line: string) => string): string[] {
  const blocks = readDocument(document).matchAll(/^```sh\n([^`]+)\n```$/gm);
  const lines = [...blocks].flatMap(([, block = '']) => block.split('\n'));
  const line = lines.find((one) => one.split(/[ /.]/).includes(program));
  if (line === undefined) throw new Error(`docs/${document} runs no ${program}`);
  return put(line).split(' ');
}

function readDocument(document: string): string {
  return readFileSync(join(project, 'docs', document), 'utf8');
}
