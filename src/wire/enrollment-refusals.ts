import type { ErrorCode } from '../core/errors.ts';

/** When a code of the enrollment listener comes, and what a client can do. CommonMark. */
export const refusals = {
  'request-malformed':
    'not JSON (`Content-Type: application/json`, no content coding), a member missing, unknown or of another form.',
  'request-too-large':
    'the body is larger than 65,536 bytes, of svids than 1 MiB; or its answer would become larger than 8 MiB.',
  'request-not-found': 'nothing is at this path.',
  'request-method': '`Allow` says which method is served.',
  'request-csr':
    'not a PKCS#10 request, not signed with its own key, a second URI, or it asks for CA rights.',
  'request-key':
    'a key of another type or a weak one; in a renewal the same key again, or that of the agent. Make a new key.',
  'request-binding':
    'the signature does not verify over this connection and this evidence, or the nonce is unknown, used or older than 60 s.',
  'request-unknown-type': 'no evidence of this type is taken here.',
  'denied-evidence': 'no such token.',
  'denied-token-used': 'used with this key, and its certificate is past half of its life: renew that one.',
  'denied-token-expired': 'ask for a new join file.',
  'denied-token-revoked': 'ask for a new join file.',
  'denied-token-address': 'the token may not be used from this address.',
  'denied-certificate':
    'no client certificate, one that has expired, does not chain to the root or was not issued here, or its registration entry is gone. Enroll again.',
  'denied-revoked':
    'the certificate to renew, or the one that this token and key got before, is revoked, or its issuer is. Enroll with a new join file.',
  'denied-suspended': 'the operator suspended this identity, or deleted its registration entry.',
  'denied-no-entry': 'no registration entry matches, or none of this agent has that id.',
  'policy-key-conflict': 'all uses of the token are burnt by other keys.',
  'policy-key-blocked':
    'a certificate of this key was revoked, for key compromise as a rule. Make a new key.',
  'policy-names': 'the CSR asks for a name that the registration entry does not give.',
  'policy-entry-changed': 'the registration entry changed meanwhile. Try again.',
  'policy-conflict': 'the serial was taken meanwhile. Try again.',
  'policy-lint': "what the registration entry asks for would break a rule; the operator's to mend.",
  'policy-clock': "the server's clock is in doubt; nothing is issued until the operator acts.",
  'unavailable-overloaded': 'too many requests are in progress, or too many streams are open.',
  'unavailable-rate-limited':
    'too many failures within a minute, of this address, token or identity; or too many streams of this identity.',
  'unavailable-signer': 'nothing can be signed now. Without `Retry-After` the operator must act first.',
  'unavailable-issuer':
    'the issuer was revoked by the root or replaced, and there is no other yet; the operator must act first.',
  'unavailable-store': 'nothing can be stored now.',
  'unavailable-stopping': 'the server is stopping.',
  'integrity-signature': 'the server found its own state inconsistent and stopped; its operator must act.',
  'integrity-log': 'as `integrity-signature`.',
  'integrity-state': 'as `integrity-signature`.',
  'integrity-rewind':
    'as `integrity-signature`: a `checkpoint` that a client sent proves that the server was set back.',
  internal: "the operator's log has the cause.",
} as const satisfies Partial<Record<ErrorCode, string>>;

/** A code that the enrollment listener answers with. */
export type Refusal = keyof typeof refusals;

const anywhere = ['request-not-found', 'request-method', 'internal'] as const;
const withBody = [...anywhere, 'request-malformed', 'request-too-large'] as const;
const issuing = [
  ...withBody,
  'request-csr',
  'request-key',
  'request-binding',
  'denied-revoked',
  'denied-suspended',
  'policy-key-blocked',
  'policy-names',
  'policy-entry-changed',
  'policy-conflict',
  'policy-lint',
  'policy-clock',
  'unavailable-overloaded',
  'unavailable-rate-limited',
  'unavailable-signer',
  'unavailable-issuer',
  'unavailable-store',
  'unavailable-stopping',
  'integrity-signature',
  'integrity-log',
  'integrity-state',
  'integrity-rewind',
] as const;

/** The codes of each route. */
export const refusalsOf = {
  bundle: anywhere,
  challenge: withBody,
  enroll: [
    ...issuing,
    'request-unknown-type',
    'denied-evidence',
    'denied-token-used',
    'denied-token-expired',
    'denied-token-revoked',
    'denied-token-address',
    'denied-no-entry',
    'policy-key-conflict',
  ],
  renew: [...issuing, 'denied-certificate'],
  entries: [
    ...anywhere,
    'denied-certificate',
    'denied-revoked',
    'denied-suspended',
    'unavailable-rate-limited',
    'unavailable-store',
  ],
  jwtSvids: [
    ...withBody,
    'denied-certificate',
    'denied-revoked',
    'denied-suspended',
    'denied-no-entry',
    'policy-entry-changed',
    'policy-clock',
    'unavailable-overloaded',
    'unavailable-rate-limited',
    'unavailable-signer',
    'unavailable-stopping',
    'integrity-signature',
  ],
  /** Of the call, and of an item. */
  svids: [...issuing.filter((code) => code !== 'request-binding'), 'denied-certificate', 'denied-no-entry'],
  watch: [
    ...anywhere,
    'denied-certificate',
    'denied-revoked',
    'denied-suspended',
    'unavailable-overloaded',
    'unavailable-rate-limited',
    'unavailable-stopping',
  ],
} as const satisfies Record<string, readonly Refusal[]>;
