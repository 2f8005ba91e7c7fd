import { randomBytes } from 'node:crypto';
import { joinTokenType, parseCidr } from '../attestation/node/join-token/verify.ts';
import { rfc3339 } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import type { RegistrationEntry } from '../core/registration.ts';
import type { TrustDomain } from '../core/spiffe-id.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import { defaultProfile } from '../issuance/profile.ts';
import { recordLeaf } from '../sequencer/record.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import {
  allowedClient,
  eachOnce,
  bounded,
  registrableAddress,
  registrableDnsName,
  registrableId,
  registrableLifetime,
} from '../registration/names.ts';
import type { StoreReader } from '../store/port.ts';
import { formatJoinFile } from '../wire/join-file.ts';
import { joinTokenHash, newJoinToken } from '../attestation/node/join-token/token.ts';

/** What an operator asks for; checked here, not before. */
export interface TokenRequest {
  spiffeId: string;
  dnsNames: readonly string[];
  ipAddresses: readonly string[];
  allowedClients: readonly string[];
  cidrs: readonly string[];
  ttlSeconds: number;
  uses: number;
  lifetimeSeconds: number | undefined;
}

/** What goes into a join file besides the token. */
export interface JoinFacts {
  enrollmentUrl: string;
  trustDomain: TrustDomain;
  pin: string;
  floor: () => { statement: number; bundle: number; treeSize: number };
}

/** The answer; `joinFile` is the only place where the token ever stands. */
export interface CreatedToken {
  tokenId: string;
  spiffeId: string;
  dnsNames: readonly string[];
  expiresAt: string;
  joinFile: string;
}

/** Longest life and most uses of a token. */
const tokenLimits = { ttlSeconds: 7 * 24 * 3600, uses: 10_000 };

interface Parts {
  store: StoreReader;
  sequencer: Sequencer;
  clockGuard: ClockGuard;
  facts: JoinFacts;
}

/** Makes join tokens: a token and the registration entry whose one selector it is, in one transaction. */
export class Tokens {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Throws `request-malformed` for what cannot stand in a certificate, `denied-suspended` for a suspended identity. */
  async create(request: TokenRequest, operator: string): Promise<CreatedToken> {
    const { facts, clockGuard, sequencer } = this.#parts;
    const nowMs = clockGuard.issuanceTimeMs();
    const tokenId = `t_${randomBytes(8).toString('hex')}`;
    const entry = this.#entry(request, tokenId, nowMs);
    const expiresAtMs = nowMs + bounded(request.ttlSeconds, tokenLimits.ttlSeconds, 'ttl in seconds') * 1000;
    const usesAllowed = bounded(request.uses, tokenLimits.uses, 'uses');
    for (const cidr of request.cidrs) parseCidr(cidr);
    const secret = newJoinToken();
    const token = {
      tokenId,
      entryId: entry.entryId,
      usesAllowed,
      cidrs: request.cidrs,
      expiresAtMs,
      createdAtMs: nowMs,
      createdBy: operator,
    };
    const secretSha256 = joinTokenHash(secret);
    // All that the rows of token and entry hold: `vouch log verify` compares them with it.
    const leaf = recordLeaf('token', nowMs, {
      event: 'created',
      operator,
      tokenId,
      entryId: entry.entryId,
      spiffeId: entry.spiffeId,
      selectors: entry.selectors.map(({ type, value }) => ({ type, value })),
      dnsNames: [...entry.dnsNames],
      ipAddresses: [...entry.ipAddresses],
      allowedClients: [...entry.allowedClients],
      profile: entry.profile,
      lifetimeSeconds: entry.lifetimeSeconds,
      uses: usesAllowed,
      cidrs: [...request.cidrs],
      expiresAtMs,
      secretSha256: secretSha256.toString('hex'),
    });
    // Before the record: what cannot be written down must not be made.
    const joinFile = formatJoinFile({
      server: facts.enrollmentUrl,
      trustDomain: facts.trustDomain,
      pin: facts.pin,
      token: secret,
      floor: facts.floor(),
    });
    await sequencer.record({ kind: 'token', leaf, token, secretSha256, entry });
    return {
      tokenId,
      spiffeId: entry.spiffeId,
      dnsNames: entry.dnsNames,
      expiresAt: rfc3339(expiresAtMs),
      joinFile,
    };
  }

  #entry(request: TokenRequest, tokenId: string, nowMs: number): RegistrationEntry {
    const spiffeId = registrableId(request.spiffeId, this.#parts.facts.trustDomain);
    if (
      this.#parts.store.entries({ limit: 1000, spiffeId }).some((entry) => entry.suspendedAtMs !== undefined)
    )
      throw new VouchError(
        'denied-suspended',
        `${spiffeId} is suspended; lift that with \`vouch entry resume --id ${spiffeId}\` first`,
      );
    return {
      entryId: `e_${randomBytes(8).toString('hex')}`,
      spiffeId,
      parentId: undefined,
      hint: '',
      selectors: [{ type: joinTokenType, value: tokenId }],
      dnsNames: eachOnce(request.dnsNames, registrableDnsName),
      ipAddresses: eachOnce(request.ipAddresses, registrableAddress),
      allowedClients: eachOnce(request.allowedClients, allowedClient),
      profile: defaultProfile.name,
      lifetimeSeconds: registrableLifetime(request.lifetimeSeconds),
      version: 1,
      suspendedAtMs: undefined,
      createdAtMs: nowMs,
    };
  }
}
