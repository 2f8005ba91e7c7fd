import { readFileSync } from 'node:fs';
import { VouchError } from '../core/errors.ts';
import { parse as parseYaml } from './yaml.ts';

/** Reads a YAML or JSON file; aliases are refused. Throws `config-invalid`, with `hint` where it cannot be read. */
export function parseDocument(file: string, hint: string): unknown {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new VouchError('config-invalid', `cannot read ${file}; ${hint}`, { cause: error });
  }
  try {
    return parseYaml(text, { maxAliasCount: 0 });
  } catch (error) {
    throw new VouchError(
      'config-invalid',
      `${file} is not YAML: ${error instanceof Error ? error.message.split('\n')[0] : ''}`,
    );
  }
}
