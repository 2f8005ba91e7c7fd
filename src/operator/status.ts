import { rfc3339 } from '../core/clock.ts';
import type { TrustDomain } from '../core/spiffe-id.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import type { Issuer } from '../issuance/issuer.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { CrlPublisher } from '../revocation/publisher.ts';
import type { Signer, SignerStatus } from '../signer/port.ts';
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
  const { problem, ...signer } = parts.signer.status();
  const { state } = signer;
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
    signer: signerView(signer),
    log: { treeSize: parts.store.treeSize(), checkpointSize: parts.sequencer.checkpoint()?.treeSize ?? 0 },
    issuers: [{ keyId: parts.issuer.keyId, state: 'active', notAfter: rfc3339(parts.issuer.notAfterMs) }],
    crls: parts.publisher.current().map(crlView),
  };
}

function signerView(signer: Omit<SignerStatus, 'problem'>) {
  const { state, pid, restarts, lastSuccessMs, lastProblem, sessions, failures } = signer;
  const lastSuccess = lastSuccessMs === undefined ? null : rfc3339(lastSuccessMs);
  return {
    ...{ state, pid: pid ?? null, restarts },
    ...{ lastSuccess, lastProblem: lastProblem ?? null, sessions: sessions ?? null, failures },
  };
}
