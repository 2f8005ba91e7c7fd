import { type Stats, statSync } from 'node:fs';
import { type Config, statePaths } from '../config/config.ts';
import { systemClock } from '../core/clock.ts';
import { discoveryPaths } from '../core/publication.ts';
import { caOf } from '../issuance/issuer.ts';
import { openStatement } from '../log/statement.ts';
import { readingState } from '../state.ts';
import type { StoreReader } from '../store/port.ts';
import type { AuthorityRecord } from '../store/records.ts';
import { parseCertificate } from '../x509/certificate.ts';

/** Something an operator should mend: `error` hurts now, `warning` will. */
export interface Finding {
  severity: 'error' | 'warning';
  what: string;
  remedy: string;
}

interface LiveStatus {
  state: string;
  problems: string[];
  signer: LiveSigner;
  standby?: LiveSigner;
}

interface LiveSigner {
  sessions: { open: number; wanted: number } | null;
}

/** A ceremony needs people and an appointment. */
const rootWarningDays = 30;
const dayMs = 24 * 3600 * 1000;
const loopbackHosts = /^(?:localhost|127\.|\[?::1\]?$)/;

/** Looks at configuration, files, authorities and, where one runs, at the server. */
export async function diagnose(
  config: Config,
  admin: (method: 'GET', path: string) => Promise<LiveStatus>,
): Promise<Finding[]> {
  return [
    ...urlFindings(config),
    ...(await jwtFindings(config)),
    ...fileFindings(config),
    ...(await authorityFindings(config)),
    ...(await liveFindings(admin)),
  ];
}

/** A loopback CDP behind a public listener: every certificate would point peers at themselves. */
function urlFindings(config: Config): Finding[] {
  return (
    [
      ['enrollment', config.enrollment],
      ['publication', config.publication],
    ] as const
  ).flatMap(([name, { url, listen }]): Finding[] => {
    const host = new URL(url).hostname;
    if (!loopbackHosts.test(host) || loopbackHosts.test(listen.host)) return [];
    const what = `${name}.url names ${host}, but the listener is public (${listen.host})`;
    return [
      {
        severity: 'error',
        what,
        remedy: `set ${name}.url to a name that peers can reach; new certificates carry it`,
      },
    ];
  });
}

/** What is no fault of an authority to try things with, and yet surprises. */
export function trialNotes({ publication: { url }, jwt }: Config): string[] {
  if (!loopbackHosts.test(new URL(url).hostname)) return [];
  return [
    `This is an authority to try things with: ${url} stands in its certificates, which no other machine reaches.`,
    ...(jwt.issuer === undefined
      ? ['JWT-SVIDs name it as their issuer, and OpenID Connect verifiers take https alone (docs/jwt.md).']
      : []),
  ];
}

const discoveryMs = 3_000;

/** OpenID Connect verifiers take https alone, and what stands below the issuer's URL must be what is served here. */
async function jwtFindings({ jwt: { issuer }, publication: { url } }: Config): Promise<Finding[]> {
  const warning = (what: string, remedy: string): Finding[] => [{ severity: 'warning', what, remedy }];
  if (issuer === undefined) {
    if (loopbackHosts.test(new URL(url).hostname)) return [];
    return warning(
      `JWT-SVIDs name ${url} as their issuer, which is not https: OpenID Connect verifiers refuse it`,
      'set jwt.issuer to an https URL that leads to the publication listener (docs/jwt.md)',
    );
  }
  const found = await issuerBelow(issuer);
  if (found === issuer) return [];
  return warning(
    `${issuer}${discoveryPaths.configuration} ${found === undefined ? 'cannot be read' : `names the issuer ${found}`}`,
    'see that it is what the publication listener serves, over https (docs/jwt.md)',
  );
}

/** What the provider metadata that verifiers find says of itself; undefined where they find none. */
async function issuerBelow(tokenIssuer: string): Promise<string | undefined> {
  try {
    const signal = AbortSignal.timeout(discoveryMs);
    const response = await fetch(`${tokenIssuer}${discoveryPaths.configuration}`, { signal });
    const { issuer } = (await response.json()) as { issuer?: unknown };
    return response.ok ? String(issuer) : undefined;
  } catch {
    return undefined;
  }
}

function fileFindings(config: Config): Finding[] {
  const paths = statePaths(config.state);
  const { standby } = config;
  const signers = [
    { hsm: config.hsm, socket: config.signer.socket, authority: paths.authority },
    ...(standby
      ? [{ hsm: standby.hsm, socket: standby.signer.socket, authority: paths.standbyAuthority }]
      : []),
  ];
  const keys = config.publish.flatMap(({ s3 }) => (s3 ? [s3.accessKeyFile, s3.secretKeyFile] : []));
  const secrets = [paths.serverKey, paths.database, ...keys];
  const findings: Finding[] = [];
  for (const { hsm, socket, authority } of signers) {
    const pins = [hsm, ...(hsm.replicas ?? [])].map(({ pinFile }) => pinFile);
    if (socket === undefined) secrets.unshift(...pins, authority);
    else findings.push(...pins.flatMap((pin) => splitPinFindings(config.state, pin)));
  }
  return [...secrets.filter((file) => file.startsWith('/')).flatMap(secretFindings), ...findings];
}

function secretFindings(file: string): Finding[] {
  const found = look(file);
  if (found === undefined)
    return [
      {
        severity: 'warning',
        what: `${file} cannot be looked at`,
        remedy: "run this as the server's user or as root",
      },
    ];
  if ((found.mode & 0o077) === 0) return [];
  return [{ severity: 'error', what: `${file} can be read by others`, remedy: `chmod 600 ${file}` }];
}

/** Where the signer is a user of its own, its PIN is nothing that the server's user sees. */
function splitPinFindings(state: string, pinFile: string): Finding[] {
  const pin = pinFile.startsWith('/') ? look(pinFile) : undefined;
  if (pin === undefined) return [];
  const server = look(state)?.uid;
  if (pin.uid !== server || server === 0) return secretFindings(pinFile);
  return [
    {
      severity: 'error',
      what: `${pinFile} belongs to the server's user, who is not to know the PIN`,
      remedy: `give it to the signer's user: chown SIGNER ${pinFile}`,
    },
  ];
}

function look(file: string): Stats | undefined {
  try {
    return statSync(file);
  } catch {
    return undefined;
  }
}

function authorityFindings(config: Config): Promise<Finding[]> {
  return readingState(config.state, (store) => [
    ...store.authorities().flatMap(expiryFindings),
    ...rootFindings(store),
    ...revokedFindings(store),
  ]);
}

/** What the root signed is renewed in a ceremony only, and fatal at every agent once it is over. */
function rootFindings(store: StoreReader): Finding[] {
  const root = store.authorities().find(({ kind }) => kind === 'root');
  if (!root) return [];
  const crl = store.lastCrls(root.keyId)[0];
  const jws = store.statement();
  const ends: [what: string, endMs: number][] = [
    ["the root's CRL", crl ? crl.nextUpdateSeconds * 1000 : 0],
    ["the root's statement", jws ? openStatement(jws, caOf(root.certificateDer).publicKey).notAfterMs : 0],
  ];
  return ends.flatMap(([what, endMs]): Finding[] => {
    const left = endMs - systemClock.now();
    if (left > rootWarningDays * dayMs) return [];
    const severity = left > 0 ? 'warning' : 'error';
    return [
      {
        severity,
        what: `${what} ends in ${daysOf(left)} days`,
        remedy:
          'renew it in a ceremony now (docs/ceremony.md), and take the result in with `vouch ceremony --import`',
      },
    ];
  });
}

/** An issuer that the root has revoked: its certificates count nowhere any more. */
function revokedFindings(store: StoreReader): Finding[] {
  const root = store.authorities().find(({ kind }) => kind === 'root');
  const issuers = store.authorities().filter(({ kind, state }) => kind === 'issuer' && state !== 'prepared');
  const revocationOf = ({ certificateDer }: AuthorityRecord) =>
    root && store.revocation(root.keyId, parseCertificate(certificateDer).serial);
  const isLeft = issuers.some((issuer) => issuer.state === 'active' && !revocationOf(issuer));
  return issuers.flatMap((issuer): Finding[] => {
    const revoked = revocationOf(issuer);
    if (!revoked) return [];
    return [
      {
        severity: isLeft ? 'warning' : 'error',
        what: `the root has revoked the issuer ${issuer.keyId} (${revoked.reason})`,
        remedy: isLeft
          ? 'have whoever holds a certificate of it enroll again, with a new join token; another issuer answers'
          : 'nothing is issued any more: make another authority below the same root (docs/ceremony.md)',
      },
    ];
  });
}

function expiryFindings({ kind, certificateDer, keyId }: AuthorityRecord): Finding[] {
  const { notBeforeMs, notAfterMs } = parseCertificate(certificateDer);
  const left = notAfterMs - systemClock.now();
  if (left > 0 && left / (notAfterMs - notBeforeMs) > 1 / 6) return [];
  const what = `the ${kind} ${keyId} expires in ${daysOf(left)} days`;
  return [{ severity: left > 0 ? 'warning' : 'error', what, remedy: 'prepare its successor now' }];
}

function daysOf(ms: number): number {
  return Math.max(0, Math.floor(ms / dayMs));
}

async function liveFindings(admin: (method: 'GET', path: string) => Promise<LiveStatus>): Promise<Finding[]> {
  let status: LiveStatus;
  try {
    status = await admin('GET', '/v1/status');
  } catch {
    return [
      {
        severity: 'warning',
        what: 'no server answers on the admin socket',
        remedy: 'start it with `vouch server`',
      },
    ];
  }
  return [
    ...status.problems.map((what): Finding => ({ severity: 'error', what, remedy: remedyOf(what) })),
    ...sessionFindings('the token', status.signer),
    ...(status.standby ? sessionFindings("the standby's token", status.standby) : []),
  ];
}

function sessionFindings(token: string, { sessions }: LiveSigner): Finding[] {
  if (!sessions || sessions.open >= sessions.wanted) return [];
  const what = `${token} gave ${sessions.open} of ${sessions.wanted} sessions`;
  const remedy = 'see who else has sessions with it, or set signer.sessions to what it gives';
  return [{ severity: 'warning', what, remedy }];
}

/** By the first words that fit. */
const remedies: readonly [RegExp, string][] = [
  [
    /^not pushed to/,
    'see to the target and its keys; it is tried again by itself, and peers still get everything here (docs/publication.md)',
  ],
  [/clock/, 'set the clock, or `vouch doctor --accept-clock` if it is right'],
  [
    /^nothing is signed any more/,
    'find out why: `vouch log verify`, the server log, the token; then start the server again',
  ],
  [
    /\bPIN\b.*\b(?:locked|expired)|locked its PIN/,
    'see to the PIN in the token and in its file, then `vouch doctor --retry-signer`',
  ],
  [/\bPIN\b/, 'mend the PIN, then `vouch doctor --retry-signer`'],
  [
    /shows no token/,
    'bring the token back, or set tokenLabel and tokenSerial to what the module shows; it is tried again by itself',
  ],
  [
    /^not published for/,
    'mend the signer first: they are signed as soon as it is back, and those that are served hold until their nextUpdate (`vouch crl show`)',
  ],
  [
    /CKR_|the token does not answer|the signer ended/,
    'see to the token and what lies between; it is tried again by itself (docs/hsm.md)',
  ],
];

/** What to do about a problem that the server tells of. */
export function remedyOf(problem: string): string {
  return remedies.find(([words]) => words.test(problem))?.[1] ?? 'see the server log';
}
