import type { CrlBytes } from '../x509/crl-tbs.ts';
import { maxBehindMs } from '../issuance/clock-guard.ts';

/** A CRL as it is served. */
export interface PublishedCrl {
  issuerKeyId: string;
  scope: string;
  url: string;
  /** CertificateList, DER. */
  der: CrlBytes;
  /** Names the bytes: what its leaf commits to. */
  tbsSha256: Buffer;
  crlNumber: bigint;
  thisUpdateSeconds: number;
  nextUpdateSeconds: number;
  coversTreeSize: number;
  leafIndex: number;
}

/** How far a clock may step back before a thisUpdate just given counts as one of the future (I12). */
const aheadMostSeconds = maxBehindMs / 1000;

interface Waiter {
  isOut: () => boolean;
  resolve: (isOut: boolean) => void;
}

/** The CRLs that are served now, one for each scope, and who waits for the next. */
export class PublishedCrls {
  readonly #published = new Map<string, PublishedCrl>();
  readonly #waiting = new Set<Waiter>();

  /** The newest of a scope. */
  of(scope: string): PublishedCrl | undefined {
    return this.#published.get(scope);
  }

  all(): PublishedCrl[] {
    return [...this.#published.values()];
  }

  /** Those that peers refuse for their times. */
  problems(nowSeconds: number): string[] {
    const scopes = (isSo: (crl: PublishedCrl) => boolean): string =>
      this.all()
        .filter(isSo)
        .map(({ scope }) => scope)
        .join(' ');
    const over = scopes(({ nextUpdateSeconds }) => nextUpdateSeconds < nowSeconds);
    const ahead = scopes(({ thisUpdateSeconds }) => thisUpdateSeconds > nowSeconds + aheadMostSeconds);
    return [
      ...(over ? [`past its nextUpdate: CRL ${over}`] : []),
      ...(ahead ? [`dated in the future, and refused by peers until then: CRL ${ahead}`] : []),
    ];
  }

  /** Takes a CRL in place of its scope's last one. */
  put(crl: PublishedCrl): void {
    this.#published.set(crl.scope, crl);
    for (const waiter of this.#waiting) if (waiter.isOut()) waiter.resolve(true);
  }

  /** Whether what is waited for came out before the deadline; asked anew at each CRL. */
  async until(isOut: () => boolean, timeoutMs: number): Promise<boolean> {
    if (isOut()) return true;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const waiter = { isOut, resolve };
    this.#waiting.add(waiter);
    const timer = setTimeout(() => resolve(false), timeoutMs);
    return promise.finally(() => {
      clearTimeout(timer);
      this.#waiting.delete(waiter);
    });
  }
}
