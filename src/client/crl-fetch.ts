import { keyIdOf } from '../x509/public-key.ts';
import { CrlSource, crlUrlBeside, fullCrlUrl } from './crl-source.ts';
import type { DeliveredTrust } from './delivered-trust.ts';

/**
 * Fetches the CRLs of our own chain every `everyMs` ± 10 %, conditionally, from the URLs in its certificates. `taken`
 * is called after each newer one; failures go to `problem` and the next round tries again. Does not keep the process
 * alive. Returns what stops it.
 */
export function startCrlFetch(options: {
  files: DeliveredTrust;
  everyMs: number;
  taken: () => void;
  problem: (error: unknown) => void;
}): () => void {
  const { files } = options;
  const stopped = new AbortController();
  const sources = new Map<string, CrlSource>();
  const fetchOne = async (url: string): Promise<void> => {
    const source = sources.get(url) ?? new CrlSource(url);
    sources.set(url, source);
    const fetched = await source.fetch(stopped.signal);
    if (fetched === 'unchanged') return;
    if (files.takeCrl(fetched.der)) options.taken();
    source.accept(fetched);
  };
  const round = async (): Promise<void> => {
    const { leaf, issuers, otherIssuers } = files.delivered;
    const own = [leaf, ...issuers].flatMap((certificate) => certificate.crlUrls.slice(0, 1).map(fullCrlUrl));
    // The CRLs of one trust domain lie side by side.
    const ofPeers = own
      .slice(0, 1)
      .flatMap((url) => otherIssuers.map(({ spki }) => crlUrlBeside(url, keyIdOf(spki))));
    const urls = [...own, ...ofPeers];
    for (const result of await Promise.allSettled(urls.map(fetchOne)))
      if (result.status === 'rejected' && !stopped.signal.aborted) options.problem(result.reason);
    if (!stopped.signal.aborted) schedule();
  };
  let timer: NodeJS.Timeout | undefined;
  const schedule = (): void => {
    timer = setTimeout(() => void round(), options.everyMs * (0.9 + 0.2 * Math.random())).unref();
  };
  void round();
  return () => {
    clearTimeout(timer);
    stopped.abort();
    for (const source of sources.values()) source.close();
  };
}
