import { randomBytes, verify } from 'node:crypto';
import type { Bundle } from '../authority/bundle.ts';
import { VouchError } from '../core/errors.ts';
import { type JwtClaims, jwtSigningInput } from '../core/jwt-svid.ts';
import type { RegistrationEntry } from '../core/registration.ts';
import type { SpiffeId } from '../core/spiffe-id.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import type { Issuers } from '../issuance/issuers.ts';
import type { JwtSigner } from '../signer/port.ts';
import type { StoreReader } from '../store/port.ts';
import type { CertificateStanding, JwtKeyRecord } from '../store/records.ts';
import type { JwtSvidRequest } from '../wire/jwt.ts';
import { importPublicKey } from '../x509/public-key.ts';
import { requireAgent } from './client-certificate.ts';

/** A token that was signed and verified. */
export interface SignedJwt {
  /** A compact JWS. */
  token: string;
  keyId: string;
  entryId: string;
  claims: JwtClaims;
}

interface Parts {
  store: Pick<StoreReader, 'entry'>;
  signer: JwtSigner;
  issuance: { issuers: Pick<Issuers, 'current'> };
  clockGuard: Pick<ClockGuard, 'issuanceTimeMs'>;
  bundle: () => Pick<Bundle, 'jwtKeys'>;
  /** `iss` */
  tokenIssuer: string;
  lifetimeSeconds: number;
}

/** JWT-SVIDs for the workloads of agents. */
export class JwtSvids {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /**
   * Signs one for an entry that names this agent as its parent. `agent` gives its certificate as the store knows it now, or
   * throws why it does not count: asked before, and again before the token leaves, as the entry is. Throws `denied-…`,
   * `policy-…`, `unavailable-signer`.
   */
  async sign(request: JwtSvidRequest, agent: () => Promise<CertificateStanding>): Promise<SignedJwt> {
    const { signer, clockGuard, tokenIssuer, lifetimeSeconds } = this.#parts;
    const { entryId, audience } = request;
    const asking = await agent();
    requireAgent(asking);
    const { spiffeId, version } = this.#entryOf(asking.spiffeId, entryId);
    const issuedAtSeconds = Math.floor(clockGuard.issuanceTimeMs() / 1000);
    const claims: JwtClaims = {
      ...{ tokenIssuer, spiffeId, audience, issuedAtSeconds },
      expiresAtSeconds: issuedAtSeconds + lifetimeSeconds,
      tokenId: randomBytes(16).toString('base64url'),
    };
    const { issuerKeyId, keyId, publicKeySpki } = this.#key();
    const signature = await signer.signJwt(issuerKeyId, keyId, claims);
    const input = jwtSigningInput(keyId, claims);
    const key = { key: importPublicKey(publicKeySpki).key, dsaEncoding: 'ieee-p1363' } as const;
    if (__VOUCH_WITHOUT__ !== 'I3' && !verify('sha256', Buffer.from(input, 'ascii'), key, signature))
      throw new VouchError('integrity-signature', 'the signature of a JWT-SVID does not verify');
    if (this.#entryOf((await agent()).spiffeId, entryId).version !== version)
      throw new VouchError('policy-entry-changed', 'the registration entry changed meanwhile; try again');
    return { token: `${input}.${signature.toString('base64url')}`, keyId, entryId, claims };
  }

  /** An entry of somebody else is as good as none: who asks learns nothing of it. */
  #entryOf(agentId: SpiffeId, entryId: string): RegistrationEntry {
    const entry = this.#parts.store.entry(entryId);
    if (entry?.parentId === undefined || entry.parentId !== agentId)
      throw new VouchError('denied-no-entry', 'no registration entry of this agent has that id');
    if (entry.suspendedAtMs !== undefined)
      throw new VouchError(
        'denied-suspended',
        'this identity is suspended; the operator can lift that with `vouch entry resume`',
      );
    return entry;
  }

  /** One that verifiers know and whose token is there; that of the issuer that issues, where it is one of them. */
  #key(): JwtKeyRecord {
    const { bundle, signer, issuance } = this.#parts;
    const known = bundle().jwtKeys;
    const usable = known.filter(({ issuerKeyId, keyId }) => signer.jwtKey(issuerKeyId)?.keyId === keyId);
    const current = issuance.issuers.current().keyId;
    const key = usable.find(({ issuerKeyId }) => issuerKeyId === current) ?? usable[0];
    if (key) return key;
    if (known.length === 0)
      throw new VouchError(
        'unavailable-signer',
        'this authority has no key that signs JWT-SVIDs; its operator makes one with `vouch signer --make-jwt-key`',
      );
    throw new VouchError('unavailable-signer', 'no token that signs JWT-SVIDs is there now; try again', {
      retryAfterSeconds: 1,
    });
  }
}
