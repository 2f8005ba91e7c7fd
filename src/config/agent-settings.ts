import * as z from 'zod/mini';
import { absolutePath, duration } from './values.ts';

/** What flags say, too. */
export const agentSettings = {
  /** Join file of the agent's own identity, mode 600. One with a new token is picked up when the old identity is over. */
  joinFile: z._default(absolutePath, '/etc/vouch/agent.join'),
  /** The agent's own folder: its identity, the sealed cache, status.json. One agent a folder. */
  dir: z._default(absolutePath, '/var/lib/vouch-agent'),
  /** Unix socket of the Workload API and SDS. */
  socket: z._default(absolutePath, '/run/vouch/agent.sock'),
  /**
   * `require`: without a fresh CRL of every CA nothing is served after a start. `allow-stale`: it is; revocations then do
   * not bite. What is served already is never taken back for it.
   */
  crl: z._default(z.enum(['require', 'allow-stale']), 'require'),
  /** How often CRLs are asked for while the server does not tell of them by itself. */
  crlRefresh: z.prefault(duration('1d'), '1s'),
};
