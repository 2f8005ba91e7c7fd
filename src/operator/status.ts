import { rfc3339 } from '../core/clock.ts';
import type { TrustDomain } from '../core/spiffe-id.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { CrlPublisher } from '../revocation/publisher.ts';
import type { Signer, SignerStatus } from '../signer/port.ts';
import type { StoreReader } from '../store/port.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { crlView } from './views.ts';

interface Parts {
  trustDomain: TrustDomain;
  rootPin: string;
  store: Pick<StoreReader, 'treeSize' | 'authorities'>;
  signer: Signer;
  sequencer: Sequencer;
  clockGuard: ClockGuard;
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
    issuers: issuersOf(parts.store),
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

/** The one that signs first, then those that are prepared, old or worse, in the order in which they came. */
function issuersOf(store: Pick<StoreReader, 'authorities'>) {
  const issuers = store.authorities().filter(({ kind }) => kind === 'issuer');
  return issuers
    .toSorted((a, b) => Number(b.state === 'active') - Number(a.state === 'active'))
    .map(({ keyId, state, certificateDer }) => ({
      ...{ keyId, state },
      notAfter: rfc3339(parseCertificate(certificateDer).notAfterMs),
    }));
}
