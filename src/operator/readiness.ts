import type { ServerIdentity } from '../authority/server-identity.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import type { CrlPublisher } from '../revocation/publisher.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { Signer } from '../signer/port.ts';
import type { Store } from '../store/port.ts';

/** One thing that must hold before traffic is sent here. */
export interface ReadinessCheck {
  name: string;
  /** Undefined where it holds, otherwise why not. */
  problem: string | undefined;
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
    publisher: CrlPublisher;
    identity: ServerIdentity;
  },
  lastWrite: LastWrite,
): ReadinessCheck[] {
  const signer = parts.signer.status();
  const crlProblems = parts.publisher.problems();
  return [
    {
      name: 'signer',
      problem:
        signer.state === 'usable'
          ? undefined
          : `${signer.state}${signer.problem ? `: ${signer.problem}` : ''}`,
    },
    {
      name: 'store',
      problem: parts.store.writable()
        ? lastWrite.problem
        : 'the database refuses writes; restart after mending the disk',
    },
    { name: 'log', problem: parts.sequencer.haltedBy()?.message },
    { name: 'clock', problem: parts.clockGuard.doubt() },
    { name: 'certificate', problem: parts.identity.problem() },
    { name: 'crl', problem: crlProblems.length > 0 ? crlProblems.join('; ') : undefined },
  ];
}
