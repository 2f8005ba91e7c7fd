import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Token } from './daemon.ts';

/** Runs OpenSC's pkcs11-tool on a token as whoever knows its PIN; another program than ours. Returns what it prints; throws after 20 s. */
export function pkcs11Tool(token: Token, ...args: readonly string[]): string {
  const login = ['--login', '--pin', readFileSync(token.pinFile, 'utf8').trim()];
  const command = ['--module', token.module, '--token-label', token.tokenLabel, ...login, ...args];
  return execFileSync('pkcs11-tool', command, {
    encoding: 'utf8',
    env: { ...process.env, ...token.environment },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 20_000,
    killSignal: 'SIGKILL',
  });
}
