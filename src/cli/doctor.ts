import { statSync } from 'node:fs';
import { type Config, statePaths } from '../config/config.ts';
import { systemClock } from '../core/clock.ts';
import { readingState } from '../state.ts';
import type { AuthorityRecord } from '../store/port.ts';
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
  crls: { scope: string; nextUpdate: string }[];
}

const dayMs = 24 * 3600 * 1000;
const loopbackHosts = /^(?:localhost|127\.|\[?::1\]?$)/;

/** Looks at configuration, files, authorities and, where one runs, at the server. */
export async function diagnose(
  config: Config,
  admin: (method: 'GET', path: string) => Promise<LiveStatus>,
): Promise<Finding[]> {
  return [
    ...urlFindings(config),
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

function fileFindings(config: Config): Finding[] {
  const paths = statePaths(config.state);
  const secrets = [config.hsm.pinFile, paths.serverKey, paths.database, paths.authority].filter((file) =>
    file.startsWith('/'),
  );
  return secrets.flatMap((file): Finding[] => {
    const mode = modeOf(file);
    if (mode === undefined)
      return [
        {
          severity: 'warning',
          what: `${file} cannot be looked at`,
          remedy: "run this as the server's user or as root",
        },
      ];
    if ((mode & 0o077) === 0) return [];
    return [{ severity: 'error', what: `${file} can be read by others`, remedy: `chmod 600 ${file}` }];
  });
}

function modeOf(file: string): number | undefined {
  try {
    return statSync(file).mode;
  } catch {
    return undefined;
  }
}

function authorityFindings(config: Config): Promise<Finding[]> {
  return readingState(config.state, (store) => store.authorities().flatMap(expiryFindings));
}

function expiryFindings({ kind, certificateDer, keyId }: AuthorityRecord): Finding[] {
  const { notBeforeMs, notAfterMs } = parseCertificate(certificateDer);
  const left = notAfterMs - systemClock.now();
  if (left > 0 && left / (notAfterMs - notBeforeMs) > 1 / 6) return [];
  const what = `the ${kind} ${keyId} expires in ${Math.max(0, Math.floor(left / dayMs))} days`;
  return [{ severity: left > 0 ? 'warning' : 'error', what, remedy: 'prepare its successor now' }];
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
  const remedy = /clock/.test(status.problems.join())
    ? 'set the clock, or `vouch doctor --accept-clock` if it is right'
    : 'see the server log';
  const problems = status.problems.map((what): Finding => ({ severity: 'error', what, remedy }));
  const stale = status.crls.filter((crl) => Date.parse(crl.nextUpdate) < systemClock.now());
  return [
    ...problems,
    ...stale.map(
      (crl): Finding => ({
        severity: 'error',
        what: `the CRL ${crl.scope} is past its nextUpdate`,
        remedy: 'see the server log',
      }),
    ),
  ];
}
