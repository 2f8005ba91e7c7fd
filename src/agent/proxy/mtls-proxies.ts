import { addressText, type ProxyConfig } from '../../config/proxy-config.ts';
import { asVouchError } from '../../core/errors.ts';
import type { Served } from '../workloads.ts';
import type { ProxyCounts } from './journal.ts';
import { MtlsProxy, type ProxyParts } from './mtls-proxy.ts';
import { ServedIdentities } from './served-identities.ts';

/** The proxies of an agent's configuration, each with an identity that the agent serves. */
export class MtlsProxies {
  readonly #proxies: readonly { config: ProxyConfig; proxy: MtlsProxy }[];
  readonly #identities: ServedIdentities;
  readonly #notice: (line: string) => void;
  #waiting: Served | undefined;
  #isTaking = false;

  /** `staleCrl` as `vouch/client` has it: whether new peers are let in past a CRL's nextUpdate. */
  constructor(configs: readonly ProxyConfig[], parts: ProxyParts & { staleCrl: 'refuse' | 'allow' }) {
    this.#notice = parts.notice;
    this.#identities = new ServedIdentities(parts.staleCrl, (line) => parts.notice(`proxy: ${line}`));
    this.#proxies = configs.map((config) => ({ config, proxy: new MtlsProxy(config, parts) }));
  }

  /** Takes connections from now on, and refuses them until `take`. Rejects with `config-invalid` or `config-in-use`. */
  async listen(): Promise<void> {
    for (const { proxy } of this.#proxies) await proxy.listen();
  }

  /**
   * What counts from now on: new connections show the new certificate, and those of peers that may not stay are cut as
   * soon as the CRLs are verified, which a large one takes a moment for. Of several at once the last one counts.
   */
  take(served: Served): void {
    this.#waiting = served;
    if (!this.#isTaking && this.#proxies.length > 0) void this.#takeWaiting();
  }

  /** For the agent's status. */
  status(): ({ listen: string; to: string } & ProxyCounts & { open: number })[] {
    return this.#proxies.map(({ config, proxy }) => ({
      listen: addressText(proxy.listening),
      to: addressText(config.to),
      ...proxy.counts,
    }));
  }

  /** Takes no more connections; those that are open have `graceMs` to end. */
  async close(graceMs = 0): Promise<void> {
    await Promise.all(this.#proxies.map(({ proxy }) => proxy.close(graceMs)));
  }

  async #takeWaiting(): Promise<void> {
    this.#isTaking = true;
    for (let served = this.#next(); served !== undefined; served = this.#next()) {
      try {
        const identityOf = await this.#identities.take(served);
        for (const { config, proxy } of this.#proxies)
          this.#reported(addressText(proxy.listening), () => proxy.take(identityOf(config)));
      } catch (error) {
        this.#report('whom to trust', error);
      }
    }
    this.#isTaking = false;
  }

  /** What is wrong with one identity is no reason to leave the others as they were. */
  #reported(what: string, take: () => void): void {
    try {
      take();
    } catch (error) {
      this.#report(what, error);
    }
  }

  #report(what: string, error: unknown): void {
    this.#notice(
      `proxy: ${what} stays as it was, what is served now cannot be used: ${asVouchError(error).detail}`,
    );
  }

  #next(): Served | undefined {
    const served = this.#waiting;
    this.#waiting = undefined;
    return served;
  }
}
