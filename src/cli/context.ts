import { type Command, Option } from 'commander';
import { type Config, loadConfig, statePaths } from '../config/config.ts';
import { VouchError } from '../core/errors.ts';
import { type Log, openLog } from '../telemetry/log.ts';
import { callAdmin } from './admin-client.ts';
import type { Output } from './output.ts';

interface GlobalOptions {
  config: string;
  json?: boolean;
}

/** `--config` and `--json`, wherever they stood. */
export function globalsOf(command: Command): GlobalOptions & Output {
  const { config, json } = command.optsWithGlobals<GlobalOptions>();
  return { config, json: json === true };
}

/** The configuration that the verb was told to use. */
export function configOf(command: Command): Config {
  return loadConfig(globalsOf(command).config);
}

/** A function that calls the admin socket of the configured server. */
export function adminOf(
  command: Command,
): <T>(method: 'GET' | 'POST', path: string, body?: object) => Promise<T> {
  const socket = statePaths(configOf(command).state).adminSocket;
  return (method, path, body) => callAdmin(socket, method, path, body);
}

/** Path with a query of the members that are given. */
export function withQuery(path: string, query: Readonly<Record<string, string | undefined>>): string {
  const given = Object.entries(query).filter((pair): pair is [string, string] => pair[1] !== undefined);
  return given.length === 0 ? path : `${path}?${new URLSearchParams(given).toString()}`;
}

/** The log of a verb that starts a signer for a moment. A program gets one problem on standard error, and nothing else. */
export function errandLog({ json }: Output): Log {
  return openLog(json ? 'silent' : 'warn');
}

/** Taken by each verb that changes what stands, whether it asks or not: a script need not know which of them do. */
export function yesOption(): Option {
  return new Option('--yes', 'go on without asking');
}

/** An empty value is a variable that was not set: it would name this folder, or everything. */
export function refuseEmpty(_program: Command, verb: Command): void {
  for (let command: Command | null = verb; command; command = command.parent)
    for (const option of command.options)
      if (command.getOptionValue(option.attributeName()) === '')
        throw new VouchError('usage-invalid', `${option.long} is empty`);
}

/** Asks before something that cannot be undone; without a terminal `--yes` is needed. */
export async function confirm(question: string, yes: boolean): Promise<void> {
  if (yes) return;
  if (!process.stdin.isTTY)
    throw new VouchError('usage-confirm', `${question} Without a terminal this needs --yes.`);
  const { createInterface } = await import('node:readline/promises');
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  // Ctrl-C and Ctrl-D are a no.
  const reply = await terminal.question(`${question} Type yes to go on: `).catch(() => '');
  terminal.close();
  if (reply.trim() !== 'yes') throw new VouchError('usage-confirm', 'nothing was done');
}
