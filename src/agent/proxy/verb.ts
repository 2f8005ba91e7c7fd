import { once } from 'node:events';
import { resolve } from 'node:path';
import * as z from 'zod/mini';
import { problemsOf } from '../../config/config-problem.ts';
import { addressText, type ProxySettings, proxySettings } from '../../config/proxy-config.ts';
import { systemClock } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import type { Arguments, VerbSpec } from '../arguments.ts';
import type { Output } from '../report.ts';
import { followDelivered } from './delivered-identity.ts';
import type { ProxyIdentity } from './identity.ts';
import { MtlsProxy } from './mtls-proxy.ts';

const always = { required: true };
const maybe = { required: false };
const severalTimes = { required: false, several: true };

/** How long connections may go on after SIGTERM. */
const graceMs = 10_000;

/** What `vouch agent proxy` understands. */
export const proxySpec: VerbSpec = {
  values: {
    dir: maybe,
    listen: always,
    to: always,
    allow: severalTimes,
    expect: severalTimes,
    'proxy-protocol': maybe,
    alpn: severalTimes,
    'socket-mode': maybe,
    idle: maybe,
    connections: maybe,
    crl: maybe,
  },
  switches: ['listen-anywhere', 'json'],
  command: false,
};

/** One line for a usage error. */
export const proxyUsage =
  'vouch agent proxy [--dir DIR] --listen ADDRESS --to ADDRESS [--allow ID]… | --expect ID… [--proxy-protocol v1|v2] [--alpn NAME]… [--idle 1h] [--connections N] [--listen-anywhere] [--socket-mode 0600] [--crl require|allow-stale] [--json]';

/** What `--help` prints. */
export const proxyHelp = `usage: ${proxyUsage}

mTLS for a service that cannot do TLS, with the certificate that \`vouch exec\` keeps fresh in DIR. A way in takes mTLS and
passes bytes on to a plain local port; with --expect it is a way out, which takes plain bytes and passes them on by mTLS.
An ADDRESS is HOST:PORT; the plain one may be unix:/PATH. Whoever is revoked is cut off within a second.

  --dir DIR           as \`vouch exec\` fills it (default $VOUCH_DIR, then /run/vouch)
  --listen ADDRESS    where it takes connections; port 0 picks a free one
  --to ADDRESS        where it passes them on to
  --allow ID          who may call: a SPIFFE ID, or a prefix that ends in /*; default: DIR's peers.json
  --expect ID         whom the way out must reach: exactly this one, or one of several
  --proxy-protocol V  tells the local service who calls; v2 carries the SPIFFE ID (type 0xe1)
  --alpn NAME         a protocol to agree on in TLS; gRPC wants h2
  --idle 1h           cuts connections that are silent for so long; default: never
  --connections N     at most so many at once (default 10000)
  --listen-anywhere   lets a way out listen where other machines reach it and act as this workload
  --socket-mode 0600  of a listening unix socket
  --crl require       (default) past the end of a CRL nobody new is let through
  --crl allow-stale   the last one goes on counting
  --json              {"event":"ready","listen","to","spiffeId","pid"} on stdout when it takes connections

Ends on SIGTERM or SIGINT; open connections have 10 s to end. Exit: 0 done, 2 usage, 78 nothing delivered, or cannot listen.
`;

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
  const parsed = z.safeParse(proxySettings, document);
  if (parsed.success) return parsed.data;
  const [first] = parsed.error.issues.flatMap(problemsOf);
  throw new VouchError('usage-invalid', first === undefined ? 'the flags do not fit' : flagProblem(first));
}

/** `limits.idle` is `--idle`, `proxyProtocol` is `--proxy-protocol`. */
function flagProblem({ path, problem }: { path: string; problem: string }): string {
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
