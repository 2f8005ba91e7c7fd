import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import * as z from 'zod/mini';
import { VouchError } from '../core/errors.ts';
import { deliverSchema } from './deliver-config.ts';
import { type ConfigProblem, listed, problemsOf } from './config-problem.ts';
import { proxyConfig } from './proxy-config.ts';
import { absolutePath, duration } from './values.ts';

/** Where the agent's configuration is looked for when `--config` is not given; there may be none. */
const defaultAgentConfigFile = '/etc/vouch/agent.yaml';

const agentConfigSchema = z.strictObject({
  /** Join file of the agent's own identity, mode 600. One with a new token is picked up when the old identity is over. */
  joinFile: z._default(absolutePath, '/etc/vouch/agent.join'),
  /** The agent's own folder: its identity, the sealed cache, status.json. One agent a folder. */
  dir: z._default(absolutePath, '/var/lib/vouch-agent'),
  /** Unix socket of the Workload API and SDS. */
  socket: z._default(absolutePath, '/run/vouch/agent.sock'),
  /**
   * `require`: without a fresh CRL of every CA nothing is served after a start. `allow-stale`: it is; revocations then do
   * not bite. What is served already is never taken back for it.
   */
  crl: z._default(z.enum(['require', 'allow-stale']), 'require'),
  /** How often CRLs are asked for while the server does not tell of them by itself. */
  crlRefresh: z.prefault(duration('1d'), '1s'),
  /** Files for software that knows nothing of SPIFFE. */
  deliver: z._default(deliverSchema, []),
  /** mTLS in front of plain local ports, and out of them. */
  proxy: z._default(z.array(proxyConfig).check(z.maxLength(256)), []),
});

/** The validated configuration of `vouch agent`; `crlRefresh` in seconds. */
export type AgentConfig = Readonly<z.output<typeof agentConfigSchema>>;

/** Validates a parsed document; every problem at once. */
function parseAgentConfig(document: unknown): AgentConfig | ConfigProblem[] {
  const parsed = z.safeParse(agentConfigSchema, document);
  return parsed.success ? Object.freeze(parsed.data) : parsed.error.issues.flatMap(problemsOf);
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
  const ofFlags = parseAgentConfig(given);
  if (Array.isArray(ofFlags))
    throw new VouchError('usage-invalid', listed(ofFlags.map((one) => ({ ...one, path: flagOf(one.path) }))));
  const path = file ?? defaultAgentConfigFile;
  if (file === undefined && !existsSync(path)) return ofFlags;
  const document = await read(path);
  const isObject = typeof document === 'object' && document !== null && !Array.isArray(document);
  // An empty file is YAML's null.
  const result = parseAgentConfig(isObject || document === null ? { ...document, ...given } : document);
  if (!Array.isArray(result)) return result;
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

/** An agent without a file starts without YAML. */
async function read(path: string): Promise<unknown> {
  const { parseDocument } = await import('./document.ts');
  return parseDocument(path, 'name the file with --config');
}
