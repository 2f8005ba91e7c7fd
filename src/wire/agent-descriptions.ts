import type * as z from 'zod/mini';
import * as agent from './agent.ts';
import { type Description, described } from './described.ts';

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
]);
