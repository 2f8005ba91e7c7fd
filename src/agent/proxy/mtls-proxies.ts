import { addressText, type ProxyConfig } from '../../config/proxy-config.ts';
import { asVouchError } from '../../core/errors.ts';
import type { Served, Withheld } from '../workloads.ts';
import type { ProxyCounts } from './journal.ts';
import { MtlsProxy, type ProxyParts } from './mtls-proxy.ts';
import type { KnownCrl } from './served-crls.ts';
import { ServedIdentities } from './served-identities.ts';

/** One of an agent's proxies. */
interface Configured {
  config: ProxyConfig;
  proxy: MtlsProxy;
  /** Undefined before the agent serves anything. */
  isServed?: boolean;
}

/** How proxies are run by an agent. */
interface Parts extends ProxyParts {
  /** As `vouch/client` has it: whether new peers are let in past a CRL's nextUpdate. */
  staleCrl: 'refuse' | 'allow';
  /** What the agent does not serve now, and why. */
  withheld: () => readonly Withheld[];
  /** A large CRL is not verified once more. */
  knownCrl?: KnownCrl;
}

/** The proxies of an agent's configuration, each with an identity that the agent serves. */
export class MtlsProxies {
  readonly #proxies: readonly Configured[];
  readonly #identities: ServedIdentities;
  readonly #notice: (line: string) => void;
  readonly #withheld: Parts['withheld'];
  #waiting: Served | undefined;
  #isTaking = false;

  constructor(configs: readonly ProxyConfig[], parts: Parts) {
    const { notice, staleCrl, knownCrl, withheld } = parts;
    this.#notice = notice;
    this.#withheld = withheld;
    this.#identities = new ServedIdentities(staleCrl, (line) => notice(`proxy: ${line}`), knownCrl);
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
  status(): ({ of: string; isServed: boolean; listen: string; to: string } & ProxyCounts & {
      open: number;
    })[] {
    return this.#proxies.map(({ config, proxy, isServed = false }) => ({
      of: nameOf(config),
      isServed,
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
        for (const one of this.#proxies)
          this.#reported(addressText(one.proxy.listening), () => {
            const identity = identityOf(one.config);
            one.proxy.take(identity);
            this.#serving(one, identity !== undefined);
          });
      } catch (error) {
        this.#report('whom to trust', error);
      }
    }
    this.#isTaking = false;
  }

  /** A line where it begins to wait for its certificate, and where it has waited. */
  #serving(one: Configured, isServed: boolean): void {
    const before = one.isServed ?? true;
    one.isServed = isServed;
    if (before === isServed) return;
    const place = `proxy ${addressText(one.proxy.listening)}`;
    if (isServed) this.#notice(`${place}: the certificate of ${nameOf(one.config)} is there`);
    else this.#notice(`${place} lets nobody through: it waits for ${this.#waitsFor(one.config)}`);
  }

  #waitsFor(config: ProxyConfig): string {
    const { id, entry } = config;
    const withheld = this.#withheld().find((one) =>
      entry === undefined ? one.spiffeId === id : one.entryId === entry,
    );
    return withheld === undefined
      ? `an entry that gives ${nameOf(config)} to this agent (\`vouch entry create --parent\`)`
      : `the certificate of ${withheld.spiffeId} (entry ${withheld.entryId}): ${withheld.why}`;
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

/** SPIFFE ID or entry, as configured. */
function nameOf({ id, entry }: ProxyConfig): string {
  return entry ?? id ?? '';
}
