import { rfc3339 } from '../core/clock.ts';
import type { TrustDomain } from '../core/spiffe-id.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import type { Issuer } from '../issuance/issuer.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { CrlPublisher } from '../revocation/publisher.ts';
import type { Signer } from '../signer/port.ts';
import type { StoreReader } from '../store/port.ts';
import { crlView } from './views.ts';

interface Parts {
  trustDomain: TrustDomain;
  rootPin: string;
  store: Pick<StoreReader, 'treeSize'>;
  signer: Signer;
  sequencer: Sequencer;
  clockGuard: ClockGuard;
  issuer: Issuer;
  publisher: CrlPublisher;
}

/** The answer of `vouch status`. `state`: `ready`, or `degraded` with what is wrong under `problems`. */
export function statusView(parts: Parts) {
  const { state, pid, restarts, problem } = parts.signer.status();
  const halted = parts.sequencer.haltedBy()?.message;
  const crlProblems = parts.publisher.problems();
  const problems = [problem, halted, parts.clockGuard.doubt(), ...crlProblems].filter(
    (one) => one !== undefined,
  );
  return {
    state: state === 'usable' && problems.length === 0 ? 'ready' : 'degraded',
    problems,
    trustDomain: parts.trustDomain,
    rootPin: parts.rootPin,
    signer: { state, pid: pid ?? null, restarts },
    log: { treeSize: parts.store.treeSize(), checkpointSize: parts.sequencer.checkpoint()?.treeSize ?? 0 },
    issuers: [{ keyId: parts.issuer.keyId, state: 'active', notAfter: rfc3339(parts.issuer.notAfterMs) }],
    crls: parts.publisher.current().map(crlView),
  };
}
