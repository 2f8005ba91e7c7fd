import { rfc3339 } from '../core/clock.ts';
import type { TrustDomain } from '../core/spiffe-id.ts';
import type { Issuer } from '../issuance/issuer.ts';
import type { Issuers } from '../issuance/issuers.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { PushStatus } from '../publish/pusher.ts';
import type { CrlPublishers } from '../revocation/publishers.ts';
import type { Signer, SignerStatus } from '../signer/port.ts';
import type { StoreReader } from '../store/port.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { haltProblem, issuerProblem, pushProblems } from './readiness.ts';
import { nameText } from '../x509/name.ts';
import { decodePem } from '../x509/pem.ts';
import { crlView } from './views.ts';

interface Parts {
  trustDomain: TrustDomain;
  rootPin: string;
  store: Pick<StoreReader, 'treeSize' | 'authorities' | 'crossChain' | 'revocation'>;
  rootKeyId: string;
  signer: Signer;
  sequencer: Sequencer;
  clockGuard: ClockGuard;
  issuers: readonly Issuer[];
  issuance: { issuers: Pick<Issuers, 'current' | 'mayIssue'> };
  /** Whether the configuration names a second token. */
  hasStandby: boolean;
  publisher: CrlPublishers;
  pushed: () => readonly PushStatus[];
}

/** The answer of `vouch status`. `state`: `ready`, or `degraded` with what is wrong under `problems`. */
export function statusView(parts: Parts) {
  const { signer, issuers } = parts;
  const [first, standby] = issuers.map(({ keyId }) => signer.status(keyId));
  const shown = [first, ...(parts.hasStandby ? [standby] : [])].filter((status) => status !== undefined);
  const halted = haltProblem(parts.sequencer);
  const crlProblems = parts.publisher.problems().map(({ problem }) => problem);
  const away = shown.map(({ problem }, index) =>
    problem === undefined || index === 0 ? problem : `standby: ${problem}`,
  );
  const pushed = parts.pushed();
  const issuer = issuerProblem(parts.issuance.issuers);
  const others = [halted, issuer, parts.clockGuard.doubt(), ...crlProblems, ...pushProblems(pushed)];
  const problems = [...away, ...others].filter((one) => one !== undefined);
  return {
    state: shown.every(({ state }) => state === 'usable') && problems.length === 0 ? 'ready' : 'degraded',
    problems,
    trustDomain: parts.trustDomain,
    rootPin: parts.rootPin,
    signer: signerView(shown[0] ?? signer.status()),
    ...(shown[1] ? { standby: signerView(shown[1]) } : {}),
    log: { treeSize: parts.store.treeSize(), checkpointSize: parts.sequencer.checkpoint()?.treeSize ?? 0 },
    issuers: issuersOf(parts),
    crossCertificate: crossCertificateOf(parts.store),
    crls: parts.publisher.current().map(crlView),
    publish: pushed.map(pushView),
  };
}

/** What a CA above made of our root; null where none did. */
function crossCertificateOf(store: Pick<StoreReader, 'crossChain'>) {
  const chain = store.crossChain();
  if (chain === undefined) return null;
  const [der = Buffer.alloc(0)] = decodePem(chain, 'CERTIFICATE');
  const { issuerName, notAfterMs } = parseCertificate(der);
  return { issuer: nameText(issuerName), notAfter: rfc3339(notAfterMs) };
}

function pushView({ target, waiting, failures, lastPutMs, problem }: PushStatus) {
  const lastPut = lastPutMs === undefined ? null : rfc3339(lastPutMs);
  return { target, waiting, failures, lastPut, problem: problem ?? null };
}

function signerView(status: SignerStatus) {
  const { state, pid, restarts, lastSuccessMs, lastProblem, sessions, failures } = status;
  const lastSuccess = lastSuccessMs === undefined ? null : rfc3339(lastSuccessMs);
  return {
    ...{ state, pid: pid ?? null, restarts },
    ...{ lastSuccess, lastProblem: lastProblem ?? null, sessions: sessions ?? null, failures },
  };
}

/** Those that sign first, in their order, then those that are prepared, old or worse. */
function issuersOf({ store, issuance, rootKeyId }: Parts) {
  const current = issuance.issuers.current().keyId;
  const issuers = store.authorities().filter(({ kind }) => kind === 'issuer');
  return issuers
    .toSorted((a, b) => Number(b.state === 'active') - Number(a.state === 'active'))
    .map(({ keyId, state, certificateDer }) => {
      const { serial, notAfterMs } = parseCertificate(certificateDer);
      const revoked = store.revocation(rootKeyId, serial);
      return {
        ...{ keyId, state, issuing: keyId === current && issuance.issuers.mayIssue(keyId) },
        notAfter: rfc3339(notAfterMs),
        revoked: revoked ? { reason: revoked.reason, revokedAt: rfc3339(revoked.revokedAtMs) } : null,
      };
    });
}
