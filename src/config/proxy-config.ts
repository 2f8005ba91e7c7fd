import { BlockList, isIP } from 'node:net';
import * as z from 'zod/mini';
import { parseSpiffeId, parseTrustDomain } from '../core/spiffe-id.ts';
import { type ConfigProblem, problemsOf } from './config-problem.ts';
import { duration, text } from './values.ts';

/** A TCP address or the absolute path of a unix socket. */
export type ProxyAddress = { host: string; port: number } | { path: string };

const addressGrammar =
  /^(?:unix:(?<path>\/.{1,99})|(?:\[(?<v6>[0-9a-fA-F:]+)\]|(?<host>[^:\s/[\]]+)):(?<port>\d{1,5}))$/;

const address = z.pipe(
  // `abort`: the rules below read what the transform makes.
  z.string().check(z.regex(addressGrammar, { error: 'must be HOST:PORT or unix:/PATH', abort: true })),
  z.transform((written: string, context): ProxyAddress => {
    const { path, v6, host = v6 ?? '', port } = addressGrammar.exec(written)?.groups ?? {};
    if (path !== undefined) return { path };
    if (Number(port) <= 65_535) return { host, port: Number(port) };
    context.issues.push({ code: 'custom', message: 'must be a port of at most 65535', input: written });
    return z.NEVER;
  }),
);

const holds = (parse: () => unknown): boolean => {
  try {
    parse();
    return true;
  } catch {
    return false;
  }
};
const spiffeId = z.string().check(z.refine((id) => holds(() => parseSpiffeId(id)), 'must be a SPIFFE ID'));
const pattern = z.string().check(
  z.refine((written) => {
    const [, prefix] = /^(spiffe:\/\/.*)\/\*$/.exec(written) ?? [];
    if (prefix === undefined) return holds(() => parseSpiffeId(written));
    return (
      holds(() => parseSpiffeId(prefix)) || holds(() => parseTrustDomain(prefix.slice('spiffe://'.length)))
    );
  }, 'must be a SPIFFE ID, or a prefix that ends in /*'),
);
const several = <T extends z.core.$ZodType>(one: T) => z.array(one).check(z.minLength(1), z.maxLength(4096));
const count = (most: number) => z.int().check(z.gte(1), z.lte(most));

const settings = {
  /** Where it takes connections. `unix:/PATH` only with `expect`. */
  listen: address,
  /** Where it passes them on to. `unix:/PATH` only without `expect`. */
  to: address,
  /** Who may call: SPIFFE IDs, or prefixes that end in `/*`. Default: the registration entry's allowed clients; nobody where it has none. */
  allow: z.optional(z.array(pattern).check(z.maxLength(4096))),
  /** Makes it a way out: mTLS to a server that has this SPIFFE ID, or one of these. */
  expect: z.optional(
    z.pipe(
      z.union([spiffeId, several(spiffeId)]),
      z.transform((ids: string | string[]): readonly string[] => (typeof ids === 'string' ? [ids] : ids)),
    ),
  ),
  /** Lets a way out listen where other machines reach it: whoever does acts as this workload. */
  listenAnywhere: z._default(z.boolean(), false),
  /** Permissions of a listening unix socket: who may open it acts as this workload. */
  socketMode: z.pipe(
    z._default(z.string().check(z.regex(/^0[0-7]{3}$/, "must be octal in quotes, as '0600'")), '0600'),
    z.transform((mode: string) => Number.parseInt(mode, 8)),
  ),
  /** Tells the local service who calls, in front of the first byte. `v2` carries the SPIFFE ID. */
  proxyProtocol: z._default(z.union([z.literal(false), z.enum(['v1', 'v2'])]), false),
  /** Protocols that are agreed on in TLS (ALPN); gRPC wants `h2`. Default: none. */
  alpn: z._default(z.array(text(255)).check(z.maxLength(16)), []),
  limits: z.prefault(
    z.strictObject({
      /** Connections at once whose peer was let in. Each takes two descriptors. */
      connections: z._default(count(1_000_000), 10_000),
      /** Callers at once that have not yet proved who they are; past it the oldest of them is cut. */
      handshakes: z._default(count(65_536), 512),
      /** The same of one source: an IPv4 address, an IPv6 /64. */
      handshakesPerSource: z._default(count(65_536), 64),
      /** From connecting to the end of the handshake. */
      handshake: z.prefault(duration('60s'), '5s'),
      /** Until the other side of the proxy answers, with its handshake where it has one. */
      connect: z.prefault(duration('5m'), '5s'),
      /** Without a byte either way. Default: none, databases keep connections for days. */
      idle: z.optional(duration('7d')),
      /** The same, once one side has said that it sends no more. */
      halfClosed: z.prefault(duration('1d'), '5m'),
    }),
    {},
  ),
};

type Settings = z.output<z.ZodMiniObject<typeof settings>>;

const rule = (holdsFor: (proxy: Settings) => boolean, path: string, error: string) =>
  z.refine<Settings>(holdsFor, { path: [path], error });
const isUnix = (place: ProxyAddress): boolean => 'path' in place;
const rules = [
  rule(
    ({ allow, expect }) => allow === undefined || expect === undefined,
    'allow',
    'is for a way in, `expect` for a way out: one of them',
  ),
  rule(
    ({ listen, expect }) => expect !== undefined || !isUnix(listen),
    'listen',
    'must be HOST:PORT: mTLS comes over TCP',
  ),
  rule(
    ({ to, expect }) => expect === undefined || !isUnix(to),
    'to',
    'must be HOST:PORT: mTLS goes over TCP',
  ),
  rule(({ to }) => isUnix(to) || ('port' in to && to.port > 0), 'to', 'must be a port above 0'),
  rule(
    ({ proxyProtocol, expect }) => expect === undefined || proxyProtocol === false,
    'proxyProtocol',
    'is for a way in: it tells a local service who calls',
  ),
  rule(
    ({ listen, expect, listenAnywhere }) =>
      expect === undefined || listenAnywhere || 'path' in listen || isLoopback(listen.host),
    'listen',
    'is reached by other machines, which would act as this workload: listen on 127.0.0.1, or say listenAnywhere: true',
  ),
] as const;

/** One proxy beside an identity that is known: an mTLS way into a plain local port, or with `expect` out of one. */
const proxySettings = z.strictObject(settings).check(...rules);

/** What a proxy does. Durations are in seconds. */
export type ProxySettings = z.output<typeof proxySettings>;

/** Validates what one proxy does; every problem at once. */
export function parseProxySettings(document: unknown): ProxySettings | ConfigProblem[] {
  const parsed = z.safeParse(proxySettings, document);
  return parsed.success ? parsed.data : parsed.error.issues.flatMap(problemsOf);
}

/** An item of the agent's `proxy:`; `id` or `entry` names the identity. */
export const proxyConfig = z
  .strictObject({ id: z.optional(spiffeId), entry: z.optional(text(64)), ...settings })
  .check(
    ...rules,
    z.refine(({ id, entry }) => (id === undefined) !== (entry === undefined), {
      path: ['id'],
      error: 'must be there, or `entry`: one of them',
    }),
  );

/** A proxy of the agent's. */
export type ProxyConfig = z.output<typeof proxyConfig>;

/** An address as it is written. */
export function addressText(place: ProxyAddress): string {
  if ('path' in place) return `unix:${place.path}`;
  return `${place.host.includes(':') ? `[${place.host}]` : place.host}:${place.port}`;
}

/** True for what only this machine reaches; of names, for `localhost` alone. */
function isLoopback(host: string): boolean {
  const family = isIP(host);
  return family === 0 ? host === 'localhost' : loopback.check(host, family === 4 ? 'ipv4' : 'ipv6');
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');
