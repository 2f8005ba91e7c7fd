import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const project = resolve(import.meta.dirname, '../..');

/** What stands in a fenced block of a document in `docs/`, the block named after its fence: ```` ```sh ````, ```` ```python server.py ````. */
export function blockOf(document: string, name: string): string {
  const text = readFileSync(join(project, 'docs', document), 'utf8');
  const [, block] = text.split(`\n\`\`\`${name}\n`);
  if (block === undefined) throw new Error(`docs/${document} has no block ${name}`);
  return block.slice(0, block.indexOf('\n```') + 1);
}

/** The line of a document's `sh` block that runs `program`, as words, after `put` has put things of the test's in the place of the document's. */
export function commandOf(document: string, program: string, put: (line: string) => string): string[] {
  const line = blockOf(document, 'sh')
    .split('\n')
    .find((one) => one.split(/[ /.]/).includes(program));
  if (line === undefined) throw new Error(`docs/${document} runs no ${program}`);
  return put(line).split(' ');
}
