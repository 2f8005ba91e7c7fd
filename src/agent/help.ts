import type { VerbSpec } from './arguments.ts';

/** The verbs that run from the agent's one file. */
export type AgentVerb = 'enroll' | 'renew' | 'exec' | 'bundle fetch';

const always = { required: true };
const maybe = { required: false };

/** What each verb understands. */
export const verbSpecs: Readonly<Record<AgentVerb, VerbSpec>> = {
  enroll: {
    values: { 'join-file': always, out: always, 'key-type': maybe, crl: maybe, timeout: maybe },
    switches: ['json'],
    command: false,
  },
  renew: {
    values: { dir: always, 'key-type': maybe, crl: maybe, timeout: maybe },
    switches: ['json'],
    command: false,
  },
  exec: {
    values: {
      'join-file': always,
      out: maybe,
      'on-change': maybe,
      'on-revoked': maybe,
      'key-type': maybe,
      crl: maybe,
      'crl-refresh': maybe,
      timeout: maybe,
    },
    switches: ['json'],
    command: true,
  },
  'bundle fetch': {
    values: { url: always, pin: always, out: always, timeout: maybe },
    switches: ['json'],
    command: false,
  },
};

/** One line for each verb, shown with a usage error. */
export const verbUsage: Readonly<Record<AgentVerb, string>> = {
  enroll:
    'vouch enroll --join-file F --out DIR [--key-type TYPE] [--crl require|allow-stale] [--timeout 60s] [--json]',
  renew: 'vouch renew --dir DIR [--key-type TYPE] [--crl require|allow-stale] [--timeout 60s] [--json]',
  exec: 'vouch exec --join-file F [--out DIR] [--on-change signal:HUP|exec:CMD] [--on-revoked keep|stop] [--key-type TYPE] [--crl require|allow-stale] [--crl-refresh 1s] [--timeout 5m] [--json] -- CMD [ARG]…',
  'bundle fetch':
    'vouch bundle fetch --url https://HOST:PORT --pin sha256:HEX --out F [--timeout 60s] [--json]',
};

const files = `DIR/current names the newest generation: svid.pem (certificate, then issuers), svid.key, svid-combined.pem,
bundle.pem (whom to trust), crl.pem, proof.json (that the certificate is in the log), peers.json (who may call);
crl-delta.pem, where the authority has delta CRLs, is for vouch/client alone.`;

const keyType = `  --key-type TYPE     ec-p256 (default), ec-p384, rsa-3072, rsa-4096 or ed25519; a renewal keeps the type that there is`;

const crl = `  --crl require       (default) nothing is delivered without a fresh CRL of every CA in the chain
  --crl allow-stale   deliver without, where it cannot be had; revocations then do not bite`;

/** What `--help` prints. */
export const verbHelp: Readonly<Record<AgentVerb, string>> = {
  enroll: `usage: ${verbUsage.enroll}

Turns a join file into a certificate. The file names the server, pins its root, and holds a join token that counts
once. The server is checked by pin and by name before the token is sent; the answer is checked against the pin, the
log and the CRLs before a file is written. Safe to run again after any failure: the same key is used.

${files}

  --join-file F       as \`vouch token create --out F\` wrote it; mode 600
  --out DIR           where to deliver; made if missing
${keyType}
${crl}
  --timeout 60s       how long to go on trying where the server is away
  --json              {dir, spiffeId, serial, notBefore, notAfter, issuerKeyId, logIndex} on stdout

Exit: 0 done, 1 refused, 2 usage, 75 try again later, 78 set something right first.
`,
  renew: `usage: ${verbUsage.renew}

Renews the certificate in DIR with a fresh key, by the certificate itself. \`vouch exec\` does this at half life.

${files}

${keyType}
${crl}
  --timeout 60s       how long to go on trying where the server is away
  --json              as \`vouch enroll\`

Exit: 0 done, 1 refused (revoked, expired, suspended: enroll again), 2 usage, 75 try again later, 78 nothing there.
`,
  exec: `usage: ${verbUsage.exec}

Gets a certificate, starts CMD with VOUCH_DIR set, and keeps certificate and CRLs fresh while it runs. Fit for PID 1:
forwards signals, leaves no zombies, exits with CMD's code (128 + n where signal n ended it). A valid certificate in DIR
that F's token made is renewed instead of enrolling, so that a container may restart with its used join file; one that
another token made may be another workload's, and is replaced. A server that is away later does no harm until the
certificate expires; it is tried again and again.

On a terminal INT, QUIT, WINCH and CONT are the terminal's to send: it signals CMD itself. As PID 1 exec passes on all,
but Linux drops what comes before Node listens, in the first 50 ms: use an init (docker run --init) where that matters.

${files}

  --join-file F       as \`vouch token create --out F\` wrote it; mode 600
  --out DIR           where to deliver (default /run/vouch)
  --on-change A       after each new certificate or CRL: signal:HUP sends CMD that signal once it has a handler for it,
                      exec:CMD2 runs CMD2 by sh with VOUCH_DIR and VOUCH_CHANGE=certificate|crl; a failure is reported
                      and tried again
  --on-revoked keep   (default) say so and leave CMD running: its peers refuse it
  --on-revoked stop   end CMD by SIGTERM
${keyType}
${crl}
  --crl-refresh 1s    how often to ask for new CRLs while the server does not tell of them by itself
  --timeout 5m        how long to go on trying for the first certificate
  --json              why CMD could not be started as problem+json, the last line on stderr

Exit: CMD's code; 75 no certificate in time; 78 the join token is used up and DIR has no valid certificate of its; 126
and 127 CMD cannot be run or is not there.
`,
  'bundle fetch': `usage: ${verbUsage['bundle fetch']}

Fetches the roots of a trust domain, for a verifier that needs no certificate itself. Checked by the pin and by the
root's own statement; plain HTTP is not accepted.

  --url U             the enrollment URL
  --pin P             sha256: and the hash of the root's key, as \`vouch status\` shows it
  --out F             PEM; the SPIFFE bundle where F ends in .json
  --timeout 60s       how long to go on trying where the server is away
  --json              {trustDomain, sequence, roots, out} on stdout

Exit: 0 done, 1 refused, 2 usage, 75 try again later, 78 F cannot be written.
`,
};

/** What `vouch-agent` alone prints. */
export const agentUsage = `usage:\n${Object.values(verbUsage)
  .map((line) => `  ${line}\n`)
  .join('')}`;
