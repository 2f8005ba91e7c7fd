import { takeChain, type TakenChain } from './ceremony/program/chain.ts';
import { type ImportedRenewal, importedRenewal, takeRenewal } from './ceremony/program/import.ts';
import type { Recorder } from './ceremony/program/record.ts';
import type { ResultFiles } from './ceremony/result.ts';
import type { Clock } from './core/clock.ts';
import { publishAuthorities } from './http/documents.ts';
import type { Publication } from './http/publication.ts';
import { inTurn } from './jobs/in-turn.ts';
import type { Kernel } from './kernel.ts';
import type { Watch } from './watch/watch.ts';

/** How a running server takes in what the root and the CAs above it bring. */
export interface TakingIn {
  importRenewal: (files: ResultFiles, operator: string) => Promise<ImportedRenewal>;
  takeChain: (pem: string, operator: string) => Promise<TakenChain>;
}

/** Recorded by the one road into the log, then served and shown to agents. */
export function takingIn(kernel: Kernel, publication: Publication, watch: Watch, clock: Clock): TakingIn {
  return {
    // The second of two that bring the same finds it there, before it has recorded anything.
    importRenewal: inTurn(async (files, operator) => {
      try {
        return importedRenewal(await takeRenewal(files, recorderOf(kernel, operator)), true);
      } finally {
        // Also of one that was cut short: what the root has revoked by then issues no more.
        kernel.renewed();
        publishAuthorities(publication, kernel, clock);
        watch.bundleRenewed(kernel.bundle.sequence);
        await watch.hub.endIssuers((keyId) => kernel.issuance.issuers.isRevoked(keyId));
      }
    }),
    takeChain: inTurn(async (pem, operator) => {
      const taken = await takeChain(pem, recorderOf(kernel, operator), true);
      publishAuthorities(publication, kernel, clock);
      return taken;
    }),
  };
}

function recorderOf({ store, sequencer, clockGuard }: Kernel, operator: string): Recorder {
  return {
    ...{ store, operator, nowMs: clockGuard.revocationTimeMs() },
    commit: (mutations) => Promise.all(mutations.map((mutation) => sequencer.record(mutation))),
    storeSigned: (signed) => store.storeSigned(signed),
  };
}
