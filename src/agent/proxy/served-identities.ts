import { type AllowedPeers, parseAllowed } from '../../client/allowed.ts';
import type { Trust as PeerTrust } from '../../client/peer.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import { encodePem } from '../../x509/pem.ts';
import { keyIdOf } from '../../x509/public-key.ts';
import type { Served, Svid, Trust } from '../workloads.ts';
import type { ProxyIdentity } from './identity.ts';
import { type KnownCrl, ServedCrls } from './served-crls.ts';

/** Names an SVID among those served; the first that fits counts. */
export interface SvidChoice {
  id?: string | undefined;
  entry?: string | undefined;
}

/** What the agent serves, as proxies take it. */
export class ServedIdentities {
  readonly #staleCrl: PeerTrust['staleCrl'];
  readonly #crls: ServedCrls;
  /** What was made of an SVID, and of the roots that it stands beside. */
  #made = new WeakMap<Svid, { roots: readonly Buffer[]; tls: ProxyIdentity['tls']; allowed: AllowedPeers }>();

  constructor(staleCrl: PeerTrust['staleCrl'], problem: (line: string) => void, known?: KnownCrl) {
    this.#staleCrl = staleCrl;
    this.#crls = new ServedCrls(problem, known);
  }

  /** Resolves to what gives the identity of a proxy, or undefined where there is none. Throws where `trust` cannot be read. */
  async take({ svids, trust }: Served): Promise<(choice: SvidChoice) => ProxyIdentity | undefined> {
    const peerTrust = await this.#peerTrust(trust);
    return ({ id, entry }) => {
      const svid = svids.find((one) => (entry === undefined ? one.spiffeId === id : one.entryId === entry));
      return svid && this.#identity(svid, trust.roots, peerTrust);
    };
  }

  async #peerTrust({ trustDomain, roots, issuers, crls }: Trust): Promise<PeerTrust> {
    const known = issuers.map(parseCertificate);
    const rootsKnown = roots.map(parseCertificate);
    return {
      issuers: new Map(known.map((issuer) => [keyIdOf(issuer.spki), issuer])),
      roots: rootsKnown,
      trustDomain,
      crls: await this.#crls.take(crls, [...known, ...rootsKnown]),
      staleCrl: this.#staleCrl,
    };
  }

  #identity(svid: Svid, roots: readonly Buffer[], trust: PeerTrust): ProxyIdentity {
    const before = this.#made.get(svid);
    const made =
      before !== undefined && sameBytes(before.roots, roots)
        ? before
        : { roots, tls: tlsOf(svid, roots), allowed: parseAllowed(svid.allowedClients) };
    this.#made.set(svid, made);
    const { spiffeId, notAfterMs } = svid;
    return { spiffeId, notAfterMs, tls: made.tls, allowedClients: made.allowed, trust };
  }
}

function tlsOf({ chain, keyPkcs8 }: Svid, roots: readonly Buffer[]): ProxyIdentity['tls'] {
  const pem = (ders: readonly Buffer[]) => ders.map((der) => encodePem('CERTIFICATE', der)).join('');
  return { cert: pem(chain), key: encodePem('PRIVATE KEY', keyPkcs8), ca: pem(roots) };
}

function sameBytes(some: readonly Buffer[], others: readonly Buffer[]): boolean {
  return some.length === others.length && some.every((one, at) => others[at]?.equals(one));
}
