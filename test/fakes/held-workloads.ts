import type { Served, Svid, Withheld, Workloads } from '../../src/agent/workloads.ts';
import { parseSpiffeId, parseTrustDomain } from '../../src/core/spiffe-id.ts';

/** What an agent holds, as a test says. */
export class HeldWorkloads implements Workloads {
  now: Served | undefined;
  /** What is withheld. */
  kept: readonly Withheld[] = [];
  readonly #listeners = new Set<(served: Served) => void>();

  constructor(now?: Served) {
    this.now = now;
  }

  subscribe(listener: (served: Served) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  withheld(): readonly Withheld[] {
    return this.kept;
  }

  mintJwt(): Promise<never> {
    return Promise.reject(new Error('no JWT-SVIDs here'));
  }

  /** Tells everybody, as the port demands: another object each time. */
  serve(change: Partial<Served>): void {
    const now = { svids: [], trust: trustOf('prod.example'), ...this.now, ...change };
    this.now = now;
    setImmediate(() => {
      for (const listener of this.#listeners) listener(now);
    });
  }
}

/** A trust domain whose DER is made up. */
export function trustOf(
  trustDomain: string,
  crls: readonly Buffer[] = [Buffer.from('crl')],
): Served['trust'] {
  return {
    trustDomain: parseTrustDomain(trustDomain),
    sequence: 1,
    roots: [Buffer.from('root')],
    issuers: [Buffer.from('issuer')],
    crls,
    jwtKeys: [],
  };
}

/** An SVID whose DER is made up; the serial tells one from the next. */
export function svidOf(spiffeId: string, rest: Partial<Svid> = {}): Svid {
  const serial = rest.serial ?? '01';
  return {
    entryId: `e_${spiffeId.slice(spiffeId.lastIndexOf('/') + 1)}`,
    entryVersion: 1,
    spiffeId: parseSpiffeId(spiffeId),
    hint: '',
    chain: [Buffer.from(`leaf ${spiffeId} ${serial}`), Buffer.from('issuer')],
    keyPkcs8: Buffer.from(`key ${spiffeId} ${serial}`),
    serial,
    notBeforeMs: 0,
    notAfterMs: 3_600_000,
    issuerKeyId: '00',
    proof: { index: 0, treeSize: 1, time: 0, context: '', path: [], checkpoint: '' },
    selectors: ['unix:uid:1000'],
    allowedClients: [],
    ...rest,
  };
}
