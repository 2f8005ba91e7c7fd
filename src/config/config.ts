import path from 'node:path';
import { stringify as toYaml } from 'yaml';
import * as z from 'zod/mini';
import { asVouchError, VouchError } from '../core/errors.ts';
import { parseTrustDomain, type TrustDomain } from '../core/spiffe-id.ts';
import { type ConfigProblem, listed, problemsOf } from './config-problem.ts';
import { parseDocument } from './document.ts';
import { absolutePath, duration, text } from './values.ts';

/** Where the configuration is looked for when `--config` is not given; there is no search. */
export const defaultConfigFile = '/etc/vouch/vouch.yaml';

const listen = z.pipe(
  z.pipe(
    z.string().check(z.regex(/^(?:\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/, 'must be HOST:PORT')),
    z.transform((text: string) => {
      const at = text.lastIndexOf(':');
      return { host: text.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(text.slice(at + 1)) };
    }),
  ),
  z.object({ host: z.string(), port: z.int().check(z.lte(65_535, 'must be a port of at most 65535')) }),
);
const trustDomain = z.pipe(
  z.string(),
  z.transform((text: string, context): TrustDomain => {
    try {
      return parseTrustDomain(text);
    } catch (error) {
      context.issues.push({ code: 'custom', message: asVouchError(error).detail, input: text });
      return z.NEVER;
    }
  }),
);
/** `https:` URLs are origins; `http:` ones may have a path. */
const bareUrl = (protocol: 'http:' | 'https:', message: string) =>
  z.string().check(
    z.refine(
      (text) => {
        const url = URL.parse(text);
        const isBare = url && !url.username && !url.password && !url.search && !url.hash;
        return (
          Boolean(isBare) && url?.protocol === protocol && (protocol === 'http:' || url.pathname === '/')
        );
      },
      { error: message },
    ),
  );
/** An https URL that paths can be put behind. */
const tokenIssuer = z.string().check(
  z.maxLength(512),
  z.refine((text) => /^https:\/\/[^/?#@\s]+(?:\/[^/?#\s]+)*$/.test(text) && URL.canParse(text), {
    error: 'must be an https URL without user, query, fragment or slash at its end',
  }),
);
const between = (least: number, most: number) => z.int().check(z.gte(least), z.lte(most));

const hsmAddress = {
  /** Absolute path of the PKCS#11 module. Only the signer process loads it. */
  module: absolutePath,
  /** The token is found by label and serial; slot numbers change. */
  tokenLabel: text(32),
  tokenSerial: text(16),
  /** File with the PIN, readable by its owner only; or `credential:NAME` below $CREDENTIALS_DIRECTORY. */
  pinFile: text(4096),
  /** Environment of the signer process, for modules that need some. No secrets. */
  environment: z._default(z.record(z.string().check(z.regex(/^[A-Za-z_][A-Za-z0-9_]*$/)), z.string()), {}),
};
/** Where a token is and how it is opened. */
export const hsm = z.strictObject({
  ...hsmAddress,
  /**
   * Replicas of this token that its vendor keeps, with the same keys and ids, tried in order while it stays away. Vouch
   * copies no keys.
   */
  replicas: z.optional(z.array(z.strictObject(hsmAddress)).check(z.minLength(1), z.maxLength(7))),
});

/** A file of ours, or a credential of systemd's. */
const secretFile = z
  .string()
  .check(z.regex(/^(?:\/.{1,4095}|credential:[A-Za-z0-9._-]{1,255})$/, 'must be a path or credential:NAME'));
const keyPrefix = /^$|^[A-Za-z0-9_-][A-Za-z0-9._-]*(?:\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/;
const s3 = z.strictObject({
  /** Origin of the service. Its answers are held against signatures, so http does where the network is yours. */
  endpoint: z.string().check(
    z.refine((text) => /^https?:\/\/[^/?#@]+\/?$/.test(text) && URL.canParse(text), {
      error: 'must be http(s)://HOST or http(s)://HOST:PORT, nothing more',
    }),
  ),
  bucket: z.string().check(z.regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'must be a name of a bucket')),
  /** What all keys begin with, without slashes at its ends. */
  prefix: z._default(
    z.string().check(z.maxLength(512), z.regex(keyPrefix, 'must be names with / between')),
    '',
  ),
  region: z._default(
    z.string().check(z.regex(/^[a-z0-9-]{1,64}$/, 'must be a name of a region')),
    'us-east-1',
  ),
  /** Files with one line each, readable by their owner only. */
  accessKeyFile: secretFile,
  secretKeyFile: secretFile,
  /** ENDPOINT/BUCKET/KEY instead of BUCKET.ENDPOINT/KEY. */
  pathStyle: z._default(z.boolean(), false),
});
/** A place that others serve from, which gets what our own listener serves. */
const publishTarget = z
  .strictObject({
    /** Absolute path; it must exist. */
    directory: z.optional(absolutePath),
    s3: z.optional(s3),
  })
  .check(
    z.refine(({ directory, s3: bucket }) => (directory === undefined) !== (bucket === undefined), {
      error: 'must have either `directory` or `s3`',
    }),
  );

const configSchema = z.strictObject({
  trustDomain,
  /** State directory, made by `vouch init`. */
  state: absolutePath,
  hsm,
  signer: z.prefault(
    z.strictObject({
      /** Socket of a signer that runs as a user of its own; absent: the server starts one. */
      socket: z.optional(absolutePath),
      /** Longest wait for one request: an HSM that needs longer is not answering. */
      deadline: z.prefault(duration('60s'), '3s'),
      /**
       * Sessions with the token that sign at once, each in a thread of the signer. As many as the token's rate × its
       * latency: two saturate SoftHSM on two cores, a network HSM of 500 signatures a second at 10 ms wants five.
       */
      sessions: z._default(between(1, 64), 2),
    }),
    {},
  ),
  /** A second token with an issuer and a log key of its own, which takes over while the first stays away. */
  standby: z.optional(
    z.strictObject({
      hsm,
      /** How long the first token may be away before this one issues, and be back before it issues again. */
      after: z.prefault(duration('1h', '5s'), '10s'),
      signer: z.prefault(
        z.strictObject({
          /** Socket of its signer, where that runs as a user of its own; absent: the server starts one. */
          socket: z.optional(absolutePath),
        }),
        {},
      ),
    }),
  ),
  enrollment: z.strictObject({
    listen: z.prefault(listen, '127.0.0.1:8443'),
    /** What agents dial; its host is a name of the server's certificate. */
    url: bareUrl('https:', 'must be https://HOST or https://HOST:PORT, nothing more'),
    /** Requests in progress at once; past it 503. */
    inFlightMax: z._default(between(8, 65_536), 512),
    /** Failed attempts of one address or token in a minute; past it 429. */
    failuresPerMinute: z._default(between(1, 100_000), 60),
    /** Certificates of one registration entry that its agent gets at once; past it 429 (docs/entries.md). */
    svidsAtOnce: z._default(between(4, 100_000), 60),
    /** Certificates of each entry in a lifetime, on the average of an agent's: renewals take two and a half. */
    svidsPerLifetime: z._default(between(3, 10_000), 4),
  }),
  publication: z.strictObject({
    listen: z.prefault(listen, '127.0.0.1:8180'),
    /**
     * Base of CRL, CA and log URLs, in every certificate; it may have a path. Plain http: what is served is signed, and
     * who fetches a CRL over TLS would need one to do so (RFC 5280 §8).
     */
    url: bareUrl('http:', 'must be an http URL without user, query or fragment'),
  }),
  /** Where CRLs, bundle and CA certificates are put, too, under the paths of their URLs. */
  publish: z._default(z.array(publishTarget).check(z.maxLength(8)), []),
  operations: z.prefault(z.strictObject({ listen: z.prefault(listen, '127.0.0.1:9180') }), {}),
  crl: z.prefault(
    z.strictObject({
      /**
       * nextUpdate − thisUpdate; rebuilt on each revocation and at a third of it. The signer signs 10 days at most; under
       * an hour, CRLs would end while a signer is being mended.
       */
      validity: z.prefault(duration('10d', '1h'), '24h'),
    }),
    {},
  ),
  ocsp: z.prefault(
    z.strictObject({
      /** Answers at `/ocsp` of the publication listener, for software that takes no CRL; needs a key in the token. */
      enabled: z._default(z.boolean(), false),
      /**
       * `ignore`: a nonce is not answered, and the stored answer is given (RFC 9654 §2.1). `require`: a request with one is
       * signed while it waits, at most `noncesPerSecond` of them.
       */
      nonces: z._default(z.enum(['ignore', 'require']), 'ignore'),
      /** Answers with a nonce that are signed in a second; past it tryLater. Certificates wait for the same token. */
      noncesPerSecond: z._default(between(1, 1000), 20),
      /** Puts the responder's URL into certificates, so that clients ask it and nginx can staple by itself. */
      inCertificates: z._default(z.boolean(), false),
      /**
       * nextUpdate − thisUpdate: how long an answer outlives its signer, and how long what was good may be shown after it
       * was revoked. The signer signs 24 h at most.
       */
      validity: z.prefault(duration('24h', '5m'), '1h'),
    }),
    {},
  ),
  jwt: z.prefault(
    z.strictObject({
      /**
       * `iss` of JWT-SVIDs: an https URL below which verifiers find `/.well-known/openid-configuration`, which the
       * publication listener serves over http and something before it over TLS. Absent: the publication URL, which SPIFFE
       * verifiers do with and OpenID Connect ones refuse.
       */
      issuer: z.optional(tokenIssuer),
      /** exp − iat: nothing ends a JWT-SVID sooner. The signer signs an hour at most. */
      lifetime: z.prefault(duration('1h', '30s'), '5m'),
    }),
    {},
  ),
  log: z.prefault(
    z.strictObject({ level: z._default(z.enum(['debug', 'info', 'warn', 'error']), 'info') }),
    {},
  ),
});

/** HOST and PORT to listen on. */
export interface ListenAddress {
  host: string;
  port: number;
}

/** Where the token is and how to open it. Holds no secret: `pinFile` is a path. */
export type HsmConfig = z.output<typeof hsm>;

/** A directory or a bucket. */
export type PublishTargetConfig = z.output<typeof publishTarget>;

/** The validated configuration: frozen, printable. */
export type Config = Readonly<z.output<typeof configSchema>>;

/** Validates a parsed document; every problem at once. */
export function parseConfig(document: unknown): Config | ConfigProblem[] {
  const parsed = z.safeParse(configSchema, document);
  return parsed.success ? Object.freeze(parsed.data) : parsed.error.issues.flatMap(problemsOf);
}

/** Reads and validates a configuration file. Throws `config-invalid` that lists every problem. */
export function loadConfig(file: string): Config {
  const result = parseConfig(parseDocument(file, 'name the file with --config'));
  if (Array.isArray(result)) throw new VouchError('config-invalid', `${file}: ${listed(result)}`);
  return result;
}

/** Parses an `hsm:` block as `hsm-sim/new-token` prints it, JSON or YAML. Throws `config-invalid`. */
export function loadHsmFile(file: string): HsmConfig {
  const parsed = z.safeParse(hsm, parseDocument(file, 'it is what `hsm-sim/new-token --json` prints'));
  if (parsed.success) return parsed.data;
  const problems = listed(parsed.error.issues.flatMap(problemsOf));
  throw new VouchError('config-invalid', `${file} does not describe a token: ${problems}`);
}

/** Where things lie in the state directory. */
export function statePaths(state: string) {
  return {
    config: path.join(state, 'vouch.yaml'),
    database: path.join(state, 'vouch.db'),
    /** Of a state that waits for its ceremony. */
    pending: path.join(state, 'pending.json'),
    lock: path.join(state, 'lock.db'),
    adminSocket: path.join(state, 'admin.sock'),
    signer: path.join(state, 'signer'),
    authority: path.join(state, 'signer', 'authority.json'),
    standbySigner: path.join(state, 'standby-signer'),
    standbyAuthority: path.join(state, 'standby-signer', 'authority.json'),
    serverCertificate: path.join(state, 'server', 'svid.pem'),
    serverKey: path.join(state, 'server', 'svid.key'),
    logTiles: path.join(state, 'log'),
  };
}

/** The text of a configuration file, as `vouch init` writes it. */
export function configText(document: object): string {
  return `# Written by \`vouch init\`; every key is described in docs/configuration.md.\n${toYaml(document)}`;
}
