import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { rfc3339 } from '../../../src/core/clock.ts';
import {
  type AgentEntryJson,
  agentPaths,
  type SvidIssuedJson,
  type SvidRefusedJson,
  type SvidRequest,
  type SvidsAnswerJson,
  svidsRequestSchema,
} from '../../../src/wire/agent.ts';
import { parseCertificate } from '../../../src/x509/certificate.ts';
import { parseCsr, verifyCsr } from '../../../src/x509/csr.ts';
import type { FakeServer, RawAnswer } from '../../agent/support/fake-server.ts';
import { problem } from '../../agent/support/fake-server.ts';
import { FakeWatch } from '../../agent/support/fake-watch.ts';

type Result = SvidIssuedJson | SvidRefusedJson;

/** The part of a server that agents ask: entries, certificates for them, and the stream that tells. */
export class FakeEntries {
  readonly streams: FakeWatch;
  readonly entries: AgentEntryJson[] = [];
  sequence = 1;
  /** Each call for certificates. */
  readonly calls: SvidRequest[][] = [];
  /** Serial → entry, of all that was issued. */
  readonly issued = new Map<string, string>();
  lifetimeMs = 3_600_000;
  renewal = { earliestSeconds: 1440, latestSeconds: 2160 };
  /** Instead of a certificate; undefined issues. */
  refuse: ((request: SvidRequest) => SvidRefusedJson['problem'] | undefined) | undefined;
  /** Instead of any answer. */
  away: RawAnswer | undefined;
  /** Changes what is issued, or the whole answer at the end. */
  bendNames: ((names: { uris: string[]; dnsNames: string[] }) => void) | undefined;
  bend: ((answer: SvidsAnswerJson) => SvidsAnswerJson) | undefined;
  readonly #server: FakeServer;

  constructor(server: FakeServer) {
    this.#server = server;
    this.streams = new FakeWatch(server);
    server.routes.set(agentPaths.entries, (_text, request) => this.#list(request));
    server.routes.set(agentPaths.svids, (text, request) => this.#svids(text, request));
  }

  /** A new entry, of which the streams are told. */
  create(name: string, over: Partial<AgentEntryJson> = {}): AgentEntryJson {
    const entry: AgentEntryJson = {
      entryId: `e_${String(this.entries.length + 1).padStart(16, '0')}`,
      version: 1,
      spiffeId: `spiffe://${this.#server.authority.trustDomain}/${name}`,
      selectors: ['unix:uid:1000'],
      hint: '',
      dnsNames: [],
      ipAddresses: [],
      allowedClients: [],
      suspended: false,
      createdAt: Date.now(),
      ...over,
    };
    this.entries.push(entry);
    this.told();
    return entry;
  }

  /** Changes an entry, of which the streams are told. */
  change(entry: AgentEntryJson, over: Partial<AgentEntryJson>): AgentEntryJson {
    const changed = { ...entry, version: entry.version + 1, ...over };
    this.entries[this.entries.findIndex(({ entryId }) => entryId === entry.entryId)] = changed;
    this.told();
    return changed;
  }

  delete({ entryId }: AgentEntryJson): void {
    this.entries.splice(
      this.entries.findIndex((entry) => entry.entryId === entryId),
      1,
    );
    this.told();
  }

  told(): void {
    this.sequence += 1;
    this.streams.greeting = `:\n\nevent: entries\ndata: {"sequence":${this.sequence}}\n\n`;
    this.streams.tell('entries', { sequence: this.sequence });
  }

  #list(request: IncomingMessage): object | RawAnswer {
    const refused = this.away ?? refusalOf(request);
    if (refused) return refused;
    if (request.headers['if-none-match'] === `"${this.sequence}"`) return { status: 304 };
    return { sequence: this.sequence, entries: this.entries };
  }

  #svids(text: string, request: IncomingMessage): object | RawAnswer {
    const refused = this.away ?? refusalOf(request);
    if (refused) return refused;
    const { requests, treeSize } = svidsRequestSchema.parse(JSON.parse(text));
    this.calls.push(requests);
    const { authority } = this.#server;
    const drafts = requests.map((one) => this.#issue(one));
    const size = authority.leafHashes.length;
    const results = drafts.map((draft): Result => {
      if (draft.problem) return draft;
      const { logged, problem: _none, ...rest } = draft;
      const proof = {
        ...logged,
        treeSize: size,
        path: authority.inclusion(logged.index),
        checkpoint: authority.checkpoint(),
      };
      return { ...rest, proof };
    });
    const answer: SvidsAnswerJson = {
      results,
      authorities: {
        [authority.issuer.keyId]: [authority.issuer.der, authority.root.der].map((der) =>
          der.toString('base64'),
        ),
      },
      bundle: authority.bundle(),
      ...(treeSize === undefined || treeSize === 0 ? {} : { consistency: authority.consistency(treeSize) }),
      crlUrls: [authority.issuer, authority.root].map(({ keyId }) => ({
        keyId,
        url: `${authority.publicationUrl}/crl/${keyId}.crl`,
      })),
      time: rfc3339(Date.now() + this.#server.clockOffsetMs),
    };
    return this.bend?.(answer) ?? answer;
  }

  #issue(request: SvidRequest) {
    const { authority, clockOffsetMs } = this.#server;
    const { entryId } = request;
    const refusal = this.refuse?.(request);
    if (refusal) return { entryId, problem: refusal };
    const entry = this.entries.find((one) => one.entryId === entryId);
    if (!entry) return { entryId, problem: { code: 'denied-no-entry', detail: 'no such entry' } };
    if (entry.suspended) return { entryId, problem: { code: 'denied-suspended', detail: 'suspended' } };
    if (request.predecessor !== undefined && this.issued.get(request.predecessor) !== entryId)
      return { entryId, problem: { code: 'denied-certificate', detail: 'ask without it' } };
    if (request.predecessor !== undefined && authority.revoked.has(request.predecessor as never))
      return { entryId, problem: { code: 'denied-revoked', detail: 'the certificate to renew is revoked' } };
    const csr = parseCsr(Buffer.from(request.csr, 'base64'));
    verifyCsr(csr);
    const names = { uris: [entry.spiffeId], dnsNames: [...entry.dnsNames] };
    this.bendNames?.(names);
    const nowMs = Date.now() + clockOffsetMs;
    const der = authority.issue(csr.spki, {
      ...names,
      ipAddresses: entry.ipAddresses,
      notBeforeSeconds: Math.floor(nowMs / 1000) - 60,
      notAfterSeconds: Math.floor((nowMs + this.lifetimeMs) / 1000) - 1,
    });
    const { tbs, serial } = parseCertificate(der);
    this.issued.set(serial, entryId);
    return {
      entryId,
      certificate: der.toString('base64'),
      issuerKeyId: authority.issuer.keyId,
      logged: authority.append(tbs),
      renewal: this.renewal,
    };
  }
}

function refusalOf(request: IncomingMessage): RawAnswer | undefined {
  const shown = (request.socket as TLSSocket).getPeerX509Certificate();
  return shown ? undefined : problem(401, 'denied-certificate', 'no client certificate');
}
