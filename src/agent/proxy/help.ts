import type { VerbSpec } from '../arguments.ts';

const always = { required: true };
const maybe = { required: false };
const severalTimes = { required: false, several: true };

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
