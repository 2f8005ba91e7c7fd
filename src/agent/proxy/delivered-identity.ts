import { DeliveredTrust } from '../../client/delivered-trust.ts';
import type { Trust } from '../../client/peer.ts';
import { watchDelivered } from '../../client/watch.ts';
import { asVouchError } from '../../core/errors.ts';
import type { ProxyIdentity } from './identity.ts';

/** How often to look where the system does not tell of changes. */
const pollMs = 1000;

/**
 * Follows the files that an agent delivers into `dir`: `take` is called with what they hold, at once and after each change.
 * What does not hold is reported, and what counted before goes on counting. Throws `config-state` or `config-invalid`
 * where nothing usable was delivered. Returns what stops it.
 */
export function followDelivered(options: {
  dir: string;
  staleCrl: Trust['staleCrl'];
  take: (identity: ProxyIdentity) => void;
  notice: (line: string) => void;
}): () => void {
  const problem = (error: unknown): void => options.notice(asVouchError(error).detail);
  const files = new DeliveredTrust({ dir: options.dir, staleCrl: options.staleCrl, problem });
  let tls = tlsOf(files);
  const take = (): void => {
    const { spiffeId, leaf, allowedClients } = files.delivered;
    options.take({ spiffeId, tls, notAfterMs: leaf.notAfterMs, trust: files.trust, allowedClients });
  };
  take();
  const look = (): void => {
    const { certificate, crl } = files.reload();
    if (certificate) tls = tlsOf(files);
    if (certificate || crl) take();
  };
  return watchDelivered({ dir: options.dir, folder: () => files.delivered.folder, look, pollMs });
}

function tlsOf({ delivered }: DeliveredTrust): ProxyIdentity['tls'] {
  return { cert: delivered.chainPem, key: delivered.keyPem, ca: delivered.bundlePem };
}
