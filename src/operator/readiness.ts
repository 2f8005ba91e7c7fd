import type { ServerIdentity } from '../authority/server-identity.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import type { Issuer } from '../issuance/issuer.ts';
import type { Issuers } from '../issuance/issuers.ts';
import type { PushStatus } from '../publish/pusher.ts';
import type { CrlPublishers } from '../revocation/publishers.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { Signer, SignerStatus } from '../signer/port.ts';
import type { Store } from '../store/port.ts';

/** One thing that must hold before traffic is sent here. */
export interface ReadinessCheck {
  name: string;
  /** Undefined where it holds, otherwise why not. */
  problem: string | undefined;
  /** What is wrong and keeps no traffic away: another one stands in. */
  degraded?: string | undefined;
}

/** Why the store took no clock mark, which it is given each second; undefined where it did. */
export interface LastWrite {
  problem: string | undefined;
}

/** What must hold before traffic is sent here, from what last succeeded. */
export function readinessOf(
  parts: {
    signer: Signer;
    store: Store;
    sequencer: Sequencer;
    clockGuard: ClockGuard;
    publisher: CrlPublishers;
    issuers: readonly Issuer[];
    issuance: { issuers: Pick<Issuers, 'current' | 'mayIssue'> };
    identity: ServerIdentity;
    pushed: () => readonly PushStatus[];
  },
  lastWrite: LastWrite,
): ReadinessCheck[] {
  const { signer, issuers } = parts;
  const pushed = parts.pushed();
  const away = issuers.flatMap(({ keyId }) => problemOf(signer.status(keyId)) ?? []);
  const isStoodInFor = away.length > 0 && signer.status().state === 'usable';
  const crls = parts.publisher.problems().map(({ issuerKeyId, problem }) => ({
    problem,
    isStoodInFor: isStoodInFor && problemOf(signer.status(issuerKeyId)) !== undefined,
  }));
  const crlProblems = (standIn: boolean): string | undefined =>
    textOf(crls.filter((crl) => crl.isStoodInFor === standIn).map(({ problem }) => problem));
  return [
    {
      name: 'signer',
      problem: isStoodInFor ? undefined : textOf(away),
      degraded: isStoodInFor ? textOf(away) : undefined,
    },
    {
      name: 'store',
      problem: parts.store.writable()
        ? lastWrite.problem
        : 'the database refuses writes; restart after mending the disk',
    },
    { name: 'log', problem: haltProblem(parts.sequencer) },
    { name: 'clock', problem: parts.clockGuard.doubt() },
    { name: 'issuer', problem: issuerProblem(parts.issuance.issuers) },
    { name: 'certificate', problem: parts.identity.problem() },
    { name: 'crl', problem: crlProblems(false), degraded: crlProblems(true) },
    ...(pushed.length > 0
      ? [{ name: 'publish', problem: undefined, degraded: textOf(pushProblems(pushed)) }]
      : []),
  ];
}

/** Why an integrity failure stopped signing, as an operator reads it; undefined where none did. */
export function haltProblem(sequencer: Pick<Sequencer, 'haltedBy'>): string | undefined {
  const halted = sequencer.haltedBy();
  return halted && `nothing is signed any more: ${halted.message}`;
}

/** What did not get where others serve it from; what we serve ourselves is not concerned. */
export function pushProblems(pushed: readonly PushStatus[]): string[] {
  return pushed.flatMap(({ target, problem }) =>
    problem === undefined ? [] : [`not pushed to ${target}: ${problem}`],
  );
}

/** Why nothing is issued though everything signs; undefined where an issuer may. */
export function issuerProblem(issuers: Pick<Issuers, 'current' | 'mayIssue'>): string | undefined {
  const { keyId } = issuers.current();
  return issuers.mayIssue(keyId)
    ? undefined
    : `no issuer may issue: ${keyId} was revoked by the root or replaced`;
}

function problemOf({ state, problem }: SignerStatus): string | undefined {
  return state === 'usable' ? undefined : `${state}${problem ? `: ${problem}` : ''}`;
}

function textOf(problems: readonly string[]): string | undefined {
  return problems.length > 0 ? problems.join('; ') : undefined;
}
