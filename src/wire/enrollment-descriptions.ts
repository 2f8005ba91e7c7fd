import type * as z from 'zod/mini';
import { agentDescriptions } from './agent-descriptions.ts';
import { type Description, described } from './described.ts';
import * as enrollment from './enrollment.ts';
import * as jwt from './jwt.ts';
import * as watch from './watch.ts';

const base64 = 'base64 (RFC 4648 §4, with padding)';
const asked = {
  csr:
    `A PKCS#10 request (RFC 2986), DER in ${base64}, at most 16,384 bytes. Only its public key is taken: ECDSA P-256 or P-384 ` +
    'with an uncompressed point, Ed25519, or RSA of 2048 to 4096 bits with exponent 65537. It is signed with that key. Leave ' +
    'subject and names out: they come from the registration entry, and a name that the entry does not give is refused.',
  binding: "The proof that the CSR's key, this connection and this evidence belong together.",
  treeSize:
    'The size of `checkpoint`: the answer then proves that the log only grew since. Left out where none was seen.',
  checkpoint:
    'The checkpoint of the largest tree seen, the signed note as it came. One that the log signed over a tree that the server ' +
    'does not have proves that it was set back: it stops itself.',
};

/** By schema. Apart from the schemas, so that the agent does not carry text that only the document needs. */
export const descriptions: ReadonlyMap<z.ZodMiniType, Description> = new Map([
  described(
    enrollment.evidenceSchema,
    'The binding hashes it as UTF-8 `<type>`, a zero byte, UTF-8 `<data>`.',
    {
      type: 'The kind of evidence: `join_token`. Any other is refused with `request-unknown-type`.',
      data: "For `join_token`: the join file's member `token`, as it stands there. A secret.",
    },
  ),
  described(
    enrollment.bindingSchema,
    'Signed are, joined: the 15 bytes `vouch-enroll-v1`; 32 bytes of channel; SHA-256 of the evidence. The channel is the ' +
      'exporter of this TLS 1.3 connection (RFC 9266: label `EXPORTER-Channel-Binding`, empty context, 32 bytes) or, where ' +
      '`nonce` is there, the nonce, decoded. The evidence is `join_token`, a zero byte and the token or, in a renewal, `renew`, ' +
      'a zero byte and the DER of the client certificate shown in TLS.',
    {
      signature:
        `By the CSR's key, ${base64}. ECDSA in DER, P-256 over SHA-256, P-384 over SHA-384; RSA PKCS#1 v1.5 over SHA-256; ` +
        'Ed25519 over the bytes themselves, 64 bytes.',
      nonce: 'As `POST /v1/challenge` gave it; used up by being sent. For clients without a TLS exporter.',
    },
  ),
  described(
    enrollment.enrollRequestSchema,
    'Sent only after the server was checked by the pin of its root and by its SPIFFE ID. Repeated with the same token and key, ' +
      'until half of the lifetime, it gets the same certificate and burns no further use of the token.',
    { evidence: 'What proves who asks.', ...asked },
  ),
  described(enrollment.renewRequestSchema, 'Over mutual TLS with the certificate to be renewed.', {
    ...asked,
    csr: `${asked.csr} The key is a fresh one, not that of the certificate shown.`,
  }),
  described(enrollment.challengeRequestSchema, 'An empty object.', {}),
  described(
    enrollment.challengeAnswerSchema,
    'A nonce for one binding. It need not be used on the connection that it came by.',
    {
      nonce: `32 random bytes in ${base64}. What is signed is the 32 bytes.`,
      expiresAt: 'In 60 s; by the clock of the server.',
    },
  ),
  described(
    enrollment.bundleSchema,
    'A SPIFFE bundle (Trust Domain and Bundle §4). Members and keys that are not known are passed over. Served over plain HTTP, ' +
      'too: it is believed for `vouch_statement` alone.',
    {
      keys: 'One for each root.',
      spiffe_sequence: 'Never less than one seen before.',
      spiffe_refresh_hint: 'Seconds after which to look again.',
      vouch_statement:
        "The root's statement, a compact JWS by the root's key: trust domain, sequence, end, log keys (docs/log-format.md, Statement).",
    },
  ),
  described(enrollment.bundleKeySchema, 'A JWK (RFC 7517).', {
    kty: 'The type of the key.',
    use: '`x509-svid` for a root. Others are passed over.',
    kid: 'Not set for X.509 roots.',
    x5c: `The root's certificate first, DER in ${base64}.`,
  }),
  described(
    enrollment.inclusionProofSchema,
    'Where the leaf stands in the log, and what rebuilds it from its certificate (docs/log-format.md, Checking a certificate).',
    {
      index: "The leaf's, from 0.",
      treeSize: 'Leaves in the tree of `checkpoint`, which says the same number.',
      time: 'Unix milliseconds, as in the leaf.',
      context: '32 bytes in lower-case hex, as in the leaf.',
      path: 'The inclusion path (RFC 9162 §2.1.3), hashes in lower-case hex, the sibling nearest to the leaf first.',
      checkpoint: 'A signed note (docs/log-format.md, Checkpoint) by a log key that `vouch_statement` names.',
    },
  ),
  described(enrollment.consistencySchema, 'A consistency proof (RFC 9162 §2.1.4).', {
    treeSize: 'The size of the old tree: what the request said.',
    path: 'Hashes in lower-case hex. Empty where both trees are of one size.',
  }),
  described(
    enrollment.renewalWindowSchema,
    'Whole seconds from now. Choose a moment between the two at random, so that a fleet does not come at once.',
    {
      earliestSeconds: 'At 40 % of the lifetime.',
      latestSeconds: 'At 60 % of the lifetime.',
    },
  ),
  described(enrollment.peersSchema, 'Who may call this workload.', {
    version: 'Of the registration entry. Rises with each change.',
    allowedClients: 'SPIFFE IDs, or prefixes that end in `/*`. Empty: nobody.',
  }),
  described(enrollment.crlUrlSchema, 'The full CRL of one CA. It carries its own signature.', {
    keyId: "The CA's key id, 40 hex digits (docs/log-format.md, Leaf).",
    url: 'Plain HTTP, answered by DER.',
  }),
  described(
    enrollment.certificateAnswerSchema,
    'Nothing of it is believed before it was checked: chain, identity, key, bundle and statement, log, CRLs ' +
      '(docs/enrollment.md, Checking the answer).',
    {
      chain: `DER in ${base64}: the certificate, then its issuers, the root last.`,
      issuers: `DER in ${base64}: every issuer of the trust domain, where there is more than one. A peer may show a certificate of another than ours.`,
      bundle: 'As `GET /v1/bundle` gives it.',
      proof: 'That the certificate is in the log.',
      consistency:
        "That the log of the request's `checkpoint` is a beginning of this one. There where the request named a tree size other " +
        'than zero, of this log and not larger.',
      renewal: 'When to renew.',
      peers: 'What the operator allowed beside the names.',
      time: "The server's clock, whole seconds.",
      crlUrls: 'One for each CA: every issuer, and the root.',
    },
  ),
  described(
    jwt.jwtSvidRequestSchema,
    'A JWT-SVID for a workload of the agent whose certificate is shown in TLS.',
    {
      entryId: 'A registration entry whose parent this agent is.',
      audience:
        'Who is to take the token: its `aud`. 1 to 8 texts of 1 to 1,024 bytes in UTF-8, without control characters.',
    },
  ),
  described(
    jwt.jwtSvidAnswerSchema,
    'A bearer token: whoever has it is the workload until it expires, and nothing ends it sooner.',
    {
      token:
        'A compact JWS (RFC 7515), ES256: header `alg`, `kid`, `typ` (JWT); claims `iss`, `sub`, `aud` (a list), `iat`, `exp`, `jti`. ' +
        'Its key is the one of that `kid` and of `use` `jwt-svid` in the trust bundle.',
      expiresAt: 'Its `exp`.',
      spiffeId: 'Its `sub`: the identity of the entry.',
    },
  ),
  described(enrollment.problemSchema, 'RFC 9457. Members that are not known are passed over.', {
    type: '`urn:vouch:problem:<code>`.',
    title: 'The code in words.',
    status: 'As in the status line.',
    code: 'Stable: decide by this one.',
    detail: 'What is wrong and what to do, for people. Changes.',
    requestId:
      "As in the header `x-request-id`; joins the operator's log lines. A request may bring its own.",
  }),
  described(watch.crlEventSchema, 'A CRL is published, or what is published now.', {
    issuerKeyId: 'Key id of the CA that signed it, lower-case hex.',
    scope: '`full`, or `delta` (RFC 5280 §5.2.4).',
    crlNumber: 'Its CRL number.',
    from: 'The number of the CRL of the same scope that `patch` makes it from; null without a patch.',
    url: 'Where it is served. Plain HTTP: what comes is believed for its signature alone.',
    patch: 'Left out where there is none, or where it would hardly be smaller than the CRL.',
  }),
  described(
    watch.crlPatchSchema,
    'The DER of the CRL is `head`, then the entries of the one before it without `removed` and with `added` merged in by serial (of equal serial ' +
      'the added one stands), then `tail`. Verify the signature over what was rebuilt; where it does not hold, fetch `url`.',
    {
      head: `Everything before the first entry, ${base64}.`,
      added: `Entries that are new or changed, DER one behind the other, serials ascending; ${base64}.`,
      removed: 'Serials that are no longer listed, lower-case hex, ascending.',
      tail: `Everything behind the last entry, ${base64}.`,
    },
  ),
  described(watch.bundleEventSchema, 'The trust bundle is another, or the one that is served now.', {
    sequence: 'Its `spiffe_sequence`. Above the one seen: `GET /v1/bundle`.',
  }),
  described(watch.entryEventSchema, 'The registration entry of the certificate that was shown changed.', {
    entryId: 'The entry.',
    version: 'Rises with each change.',
    suspended: 'True: nothing is renewed, and the stream ends. False: renew, since names may be others.',
  }),
  described(
    watch.entriesEventSchema,
    'The registration entries that name the holder as parent are others, or what they are now.',
    {
      sequence: 'As `GET /v1/entries` gives it. Another than the one seen: ask.',
    },
  ),
  described(watch.renewEventSchema, 'Renew now, at a random moment of the next 20 s.', {
    reason: '`operator`; others may come.',
  }),
  described(
    watch.renewWorkloadsEventSchema,
    'To agents: renew what is held for workloads and is meant, at a random moment of the time given.',
    {
      before: 'What has a smaller `index` in its proof is meant.',
      withinSeconds: 'The time.',
      spiffeId: 'Of this SPIFFE ID.',
      entryId: 'Of this registration entry.',
      issuerKeyId: 'Of this issuer.',
    },
  ),
  ...agentDescriptions,
]);
