import { once } from 'node:events';
import { resolve } from 'node:path';
import type { ConfigProblem } from '../../config/config-problem.ts';
import { addressText, parseProxySettings, type ProxySettings } from '../../config/proxy-config.ts';
import { systemClock } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import type { Arguments } from '../arguments.ts';
import type { Output } from '../report.ts';
import { followDelivered } from './delivered-identity.ts';
import type { ProxyIdentity } from './identity.ts';
import { MtlsProxy } from './mtls-proxy.ts';

/** How long connections may go on after SIGTERM. */
const graceMs = 10_000;

/** Runs until a signal ends it. Throws `usage-invalid`, `config-state`, `config-invalid` or `config-in-use`. */
export async function runProxy(args: Arguments, output: Output): Promise<number> {
  const settings = settingsOf(args);
  const notice = (line: string): void => output.stderr(`vouch: ${line}\n`);
  const proxy = new MtlsProxy(settings, { clock: systemClock, notice });
  const dir = resolve(args.value('dir') ?? process.env.VOUCH_DIR ?? '/run/vouch');
  let spiffeId = '';
  const take = (identity: ProxyIdentity): void => {
    spiffeId = identity.spiffeId;
    proxy.take(identity);
  };
  const stop = followDelivered({ dir, staleCrl: staleCrlOf(args), take, notice });
  const ended = Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')]);
  await proxy.listen();
  const [listen, to] = [addressText(proxy.listening), addressText(settings.to)];
  output.stdout(
    args.has('json')
      ? `${JSON.stringify({ event: 'ready', listen, to, spiffeId, pid: process.pid })}\n`
      : `${spiffeId}: ${listen} to ${to}\n`,
  );
  await ended;
  await proxy.close(graceMs);
  stop();
  return 0;
}

function settingsOf(args: Arguments): ProxySettings {
  const [allow, expect, alpn] = [args.all('allow'), args.all('expect'), args.all('alpn')];
  const connections = args.value('connections');
  const document = {
    listen: args.required('listen'),
    to: args.required('to'),
    ...(allow.length > 0 && { allow }),
    ...(expect.length > 0 && { expect }),
    alpn,
    proxyProtocol: args.value('proxy-protocol') ?? false,
    listenAnywhere: args.has('listen-anywhere'),
    socketMode: args.value('socket-mode'),
    limits: {
      idle: args.value('idle'),
      connections: connections === undefined ? undefined : Number(connections),
    },
  };
  const settings = parseProxySettings(document);
  if (!Array.isArray(settings)) return settings;
  const [first] = settings;
  throw new VouchError('usage-invalid', first === undefined ? 'the flags do not fit' : flagProblem(first));
}

/** `limits.idle` is `--idle`, `proxyProtocol` is `--proxy-protocol`. */
function flagProblem({ path, problem }: ConfigProblem): string {
  const flag = path.replace(/^limits\./, '').replace(/\..*$/, '');
  const words = problem.replace('`expect`', '--expect').replace('listenAnywhere: true', '--listen-anywhere');
  return `--${flag.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} ${words}`;
}

function staleCrlOf(args: Arguments): 'refuse' | 'allow' {
  const policy = args.value('crl') ?? 'require';
  if (policy === 'require') return 'refuse';
  if (policy === 'allow-stale') return 'allow';
  throw new VouchError('usage-invalid', '--crl takes one of require, allow-stale');
}
