import type * as z from 'zod/mini';
import * as agent from './agent.ts';
import { type Description, described } from './described.ts';

const base64 = 'base64 (RFC 4648 §4, with padding)';

/** What an agent asks in the name of its workloads, by schema; as enrollment-descriptions.ts. */
export const agentDescriptions: ReadonlyMap<z.ZodMiniType, Description> = new Map([
  described(
    agent.entriesAnswerSchema,
    'The registration entries that name the identity of the client certificate as their parent, oldest first. Members that are not known are passed over.',
    {
      sequence:
        'Rises with each change of any of them; 0 where there never was one. As in `ETag`, and in the event `entries`.',
      entries: 'At most 10,000. One that was deleted is not there.',
    },
  ),
  described(
    agent.agentEntrySchema,
    'A registration entry: a process that shows all selectors is this identity.',
    {
      entryId: 'Names the entry in `POST /v1/svids`.',
      version: 'Rises with each change. With another one a certificate may have other names.',
      spiffeId: 'The identity.',
      selectors:
        'Each as text, such as `unix:uid:1000` (docs/entries.md). All must match; compared byte for byte.',
      hint: 'For a workload that has several identities (SPIFFE Workload API); empty for none.',
      dnsNames: 'In the certificate.',
      ipAddresses: 'In the certificate; text, RFC 5952 for IPv6.',
      allowedClients: 'Who may call it: SPIFFE IDs, or prefixes that end in `/*`. Empty: nobody.',
      suspended:
        'True: nothing is issued until an operator resumes it, and what was issued is revoked as a rule. Serve it to nobody.',
      createdAt: 'Unix milliseconds.',
    },
  ),
  described(agent.svidsRequestSchema, 'Each item is decided on its own.', {
    requests: 'Up to 512; renewals are begun first. Two may name one entry.',
    treeSize: 'Leaves of the largest tree that the agent has verified; the answer proves that it only grew.',
    checkpoint: 'The signed note of that tree: it proves to the server where it was set back.',
  }),
  described(
    agent.svidRequestSchema,
    'One certificate. What is wrong in one of these strings is told as `problem` of this item.',
    {
      entryId: 'As in `GET /v1/entries`.',
      csr: `A PKCS#10 request, DER in ${base64}, at most 16 KiB. It is signed with its own key; of the rest only the public key is taken. Ask for no names.`,
      predecessor:
        'Serial in hex of the certificate that it replaces: one that this agent got for this entry, neither expired nor revoked. Both then are of one lineage, which `vouch revoke --serial` ends together.',
    },
  ),
  described(agent.svidsAnswerSchema, 'One result for each request, in their order.', {
    results: 'A certificate, or why there is none.',
    authorities: `By key id of each issuer that stands in \`results\`: its certificate and those above it, the root last, DER in ${base64}.`,
    issuers: `DER in ${base64}: every issuer of the trust domain, where there is more than one. A peer may show a certificate of another than ours.`,
    bundle: 'As `GET /v1/bundle` gives it.',
    consistency:
      "That the log of the request's `checkpoint` is a beginning of this one; as in the answer of enroll.",
    crlUrls: 'One for each CA: every issuer, and the root.',
    time: "The server's clock, whole seconds.",
  }),
  described(agent.svidIssuedSchema, 'Issued.', {
    entryId: "The request's.",
    certificate: `DER in ${base64}; the chain goes on in \`authorities\`.`,
    issuerKeyId: 'Which of `authorities`.',
    proof: 'That it is in the log. All of an answer are over one checkpoint.',
    renewal: 'When to renew.',
  }),
  described(agent.svidRefusedSchema, 'Not issued.', {
    entryId: "The request's.",
    problem: 'Why.',
  }),
  described(agent.svidProblemSchema, 'As a problem of the whole call has it.', {
    code: 'Stable: decide by this one.',
    detail: 'What is wrong and what to do, for people. Changes.',
    retryAfterSeconds: 'Where waiting helps: at least that long, and a random while longer.',
  }),
]);
