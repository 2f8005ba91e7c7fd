import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import * as z from 'zod/mini';
import { VouchError } from '../core/errors.ts';
import type { AgentConfig } from './agent-file.ts';
import { agentSettings } from './agent-settings.ts';
import { type ConfigProblem, listed, problemsOf } from './config-problem.ts';

/** Where the agent's configuration is looked for when `--config` is not given; there may be none. */
const defaultAgentConfigFile = '/etc/vouch/agent.yaml';

/** Validates a parsed document; every problem at once. */
function parsed<T extends object>(schema: z.ZodMiniType<T>, document: unknown): T | ConfigProblem[] {
  const result = z.safeParse(schema, document);
  return result.success ? result.data : result.error.issues.flatMap(problemsOf);
}

/**
 * The configuration in `file`, which must be there where it is named, with `flags` over it: by name, without dashes. Throws
 * `usage-invalid` for flags and `config-invalid` for the file, with every problem of it.
 */
export async function loadAgentConfig(
  file: string | undefined,
  flags: { readonly [flag: string]: string },
): Promise<AgentConfig> {
  const given = Object.fromEntries(
    Object.entries(flags).map(([flag, value]) => [keyOf(flag), isPath(flag) ? resolve(value) : value]),
  );
  const ofFlags = parsed(z.strictObject(agentSettings), given);
  if (Array.isArray(ofFlags))
    throw new VouchError('usage-invalid', listed(ofFlags.map((one) => ({ ...one, path: flagOf(one.path) }))));
  const path = file ?? defaultAgentConfigFile;
  if (file === undefined && !existsSync(path)) return Object.freeze({ ...ofFlags, deliver: [], proxy: [] });
  // An agent without a file starts without YAML, and without what only a file says.
  const [{ parseDocument }, { agentFileSchema }] = await Promise.all([
    import('./document.ts'),
    import('./agent-file.ts'),
  ]);
  const document = parseDocument(path, 'name the file with --config');
  const isObject = typeof document === 'object' && document !== null && !Array.isArray(document);
  // An empty file is YAML's null.
  const result = parsed(
    agentFileSchema,
    isObject || document === null ? { ...document, ...given } : document,
  );
  if (!Array.isArray(result)) return Object.freeze(result);
  throw new VouchError('config-invalid', `${path}: ${listed(result)}`);
}

/** Of the shell's folder, as everywhere on a command line; in the file paths are absolute. */
function isPath(flag: string): boolean {
  return ['join-file', 'dir', 'socket'].includes(flag);
}

/** `joinFile` for `join-file`. */
function keyOf(flag: string): string {
  return flag.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}

/** `--join-file` for `joinFile`. */
function flagOf(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
