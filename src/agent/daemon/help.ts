import type { VerbSpec } from '../arguments.ts';

/** The verbs that run from the daemon's bundle. */
export type DaemonVerb = 'agent' | 'agent status';

const maybe = { required: false };

/** What each understands. */
export const daemonSpecs: Readonly<Record<DaemonVerb, VerbSpec>> = {
  agent: {
    values: { 'join-file': maybe, dir: maybe, socket: maybe, crl: maybe, 'crl-refresh': maybe },
    switches: ['json'],
    command: false,
  },
  'agent status': { values: { dir: maybe }, switches: ['json'], command: false },
};

/** One line for each, shown with a usage error. */
export const daemonUsage: Readonly<Record<DaemonVerb, string>> = {
  agent:
    'vouch agent [--config F] [--join-file F] [--dir DIR] [--socket S] [--crl require|allow-stale] [--crl-refresh 1s] [--json]',
  'agent status': 'vouch agent status [--config F] [--dir DIR] [--json]',
};

/** What `--help` prints. */
export const daemonHelp: Readonly<Record<DaemonVerb, string>> = {
  agent: `usage: ${daemonUsage.agent}

The agent of a host. Enrolls itself with a join file, learns which registration entries name it as parent (\`vouch entry
create --parent\`), holds a certificate for each, and serves them to the workloads of the host. A server that is away does no
harm until a certificate expires; a restart meanwhile goes on with what the last one held.

Each flag is also a key of the configuration file (/etc/vouch/agent.yaml where there is one, or --config F), which has more:
what is delivered as files, and mTLS in front of plain ports.

  --join-file F       as \`vouch token create --out F\` wrote it, mode 600 (default /etc/vouch/agent.join); needed for the
                      first start, and again where everything had expired
  --dir DIR           the agent's own folder (default /var/lib/vouch-agent); on a disk that outlives a restart
  --socket S          where workloads ask (default /run/vouch/agent.sock)
  --crl require       (default) after a start nothing is served without a fresh CRL of every CA
  --crl allow-stale   it is; revocations then do not bite
  --crl-refresh 1s    how often to ask for new CRLs while the server does not tell of them by itself
  --json              {"event":"ready","spiffeId","socket","pid","entries"} on stdout when there is something to serve

\`vouch agent status --help\`: what it holds. \`vouch agent proxy --help\`: mTLS beside \`vouch exec\`, without this daemon.

SIGTERM ends it. Exit: 0 ended, 1 failed, 2 usage, 78 set something right first (no join file, folder not writable).
`,
  'agent status': `usage: ${daemonUsage['agent status']}

What the agent with this folder holds: its own identity, each registration entry with its certificate, when that is renewed
and what the last failure was, whether the server answers, and how deliveries and proxies are. It reads DIR/status.json, which
holds no secret.

  --dir DIR           the agent's own folder (default: of the configuration, /var/lib/vouch-agent)
  --json              status.json as it is, with "running"

Exit: 0 it runs and is somebody, 1 it does not, its socket is gone or its own identity has ended, 2 usage, 78 no agent ran
there.
`,
};
