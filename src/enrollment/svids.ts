import { setImmediate as aTurn } from 'node:timers/promises';
import { VouchError } from '../core/errors.ts';
import type { RegistrationEntry } from '../core/registration.ts';
import { parseSerial } from '../core/serial.ts';
import { type Issuance, type IssuedCertificate, issuerRevoked } from '../issuance/issue.ts';
import { type Profile, profileNamed } from '../issuance/profile.ts';
import { FairQueue } from '../jobs/fair-queue.ts';
import { Slice } from '../jobs/slice.ts';
import type { StoreReader } from '../store/port.ts';
import type { CertificateStanding } from '../store/records.ts';
import { type SvidRequest, svidsAnswerMaxBytes } from '../wire/agent.ts';
import { csrDer } from '../wire/enrollment.ts';
import { parseCsr, verifyCsr } from '../x509/csr.ts';
import type { PublicKeyInfo } from '../x509/public-key.ts';
import { requireAgent } from './client-certificate.ts';
import type { Channel } from './enroll.ts';
import { refuseForeignNames } from './requested-names.ts';

/** Of one call: who asks, and how large its answer may still become. */
export interface SvidCall {
  /** As it was looked up for this call. */
  agent: CertificateStanding;
  channel: Pick<Channel, 'peerAddress' | 'requestId'>;
  /** Bytes; from `answerRoom`. */
  room: number;
}

/** Of the largest answer a part is left for what stands in it once: authorities, bundle. */
export const answerRoom = svidsAnswerMaxBytes - 1024 * 1024;

/** What is checked before a part of it goes into the log: as many as share a commit there. */
const groupMax = 64;

/** Of each group for first certificates, where renewals would fill it. */
const firstsShare = groupMax / 4;

/** Checks and prepares one certificate until nothing but the log is missing, and waits for `together` there. */
type Start = (together: Promise<void>) => void;

/**
 * The certificates that agents ask for in the name of their workloads, each on its own: entry → CSR → predecessor →
 * issuance. That the agent is who it says is its TLS identity, that a key is held by somebody the CSR's own signature (ADR 15).
 */
export class Svids {
  readonly #store: Pick<StoreReader, 'entry' | 'certificate' | 'certificatesBySerial'>;
  readonly #issuance: Pick<Issuance, 'issue' | 'issuers' | 'timeMs'>;
  readonly #profiles: (name: string) => Profile;
  readonly #renewals = new FairQueue<Start>();
  readonly #firsts = new FairQueue<Start>();
  #isRunning = false;

  constructor(parts: {
    store: Pick<StoreReader, 'entry' | 'certificate' | 'certificatesBySerial'>;
    issuance: Pick<Issuance, 'issue' | 'issuers' | 'timeMs'>;
    /** The profile that an entry names. */
    profiles?: (name: string) => Profile;
  }) {
    this.#store = parts.store;
    this.#issuance = parts.issuance;
    this.#profiles = parts.profiles ?? profileNamed;
  }

  /**
   * One certificate, when it is its turn: renewals come first, and agents one after another. Throws `denied-no-entry` for an entry that is not this
   * agent's, whether or not there is one, and what CSR, entry, issuance refuse with.
   */
  issue(request: SvidRequest, call: SvidCall): Promise<IssuedCertificate> {
    return new Promise((resolve, reject) => {
      const waiting = request.predecessor === undefined ? this.#firsts : this.#renewals;
      const start: Start = (together) => void this.#issue(request, call, together).then(resolve, reject);
      waiting.add(call.agent.spiffeId, start);
      if (!this.#isRunning) void this.#run();
    });
  }

  /** One group after another, whoever asked, so that all calls together take no longer a turn than one. */
  async #run(): Promise<void> {
    this.#isRunning = true;
    await aTurn();
    const slice = new Slice();
    for (let group = this.#next(); group.length > 0; group = this.#next()) {
      const { promise: together, resolve: go } = Promise.withResolvers<void>();
      for (const start of group) {
        start(together);
        if (slice.isOver) await slice.turn();
      }
      go();
    }
    this.#isRunning = false;
  }

  #next(): Start[] {
    const kept = Math.min(this.#firsts.size, firstsShare);
    const group = this.#renewals.take(groupMax - kept);
    return [...group, ...this.#firsts.take(groupMax - group.length)];
  }

  /** All of it up to `together` in one go. */
  async #issue(request: SvidRequest, call: SvidCall, together: Promise<void>): Promise<IssuedCertificate> {
    const { agent, channel } = call;
    requireAgent(agent);
    const entry = this.#entryOf(request.entryId, agent);
    call.room -= answerBytes(entry);
    if (call.room < 0)
      throw new VouchError('request-too-large', 'the answer would become too large: ask for fewer at once');
    const csr = parseCsr(readCsr(request.csr));
    const publicKey = verifyCsr(csr);
    refuseForeignNames(csr, entry);
    const predecessor = this.#predecessorOf(request, entry, agent);
    requireFresh(publicKey, agent, predecessor);
    const issued = await this.#issuance.issue({
      ...{ names: entry, publicKey, predecessor, agent, together },
      profile: this.#profiles(entry.profile),
      lifetimeSeconds: entry.lifetimeSeconds,
      entry: { entryId: entry.entryId, version: entry.version },
      tokenId: undefined,
      decision: {
        kind: 'svid',
        agent: agent.spiffeId,
        agentSerial: agent.serial,
        ...(agent.node === undefined ? {} : { node: agent.node }),
        entry: entry.entryId,
        entryVersion: entry.version,
        spiffeId: entry.spiffeId,
        requestId: channel.requestId,
        peerAddress: channel.peerAddress,
      },
    });
    this.#requireStanding(issued);
    return issued;
  }

  /** Deny by default (I7): what is another agent's looks as if it were not there. */
  #entryOf(entryId: string, agent: CertificateStanding): RegistrationEntry {
    const entry = this.#store.entry(entryId);
    if (entry === undefined || entry.parentId !== agent.spiffeId)
      throw new VouchError('denied-no-entry', 'no registration entry of this agent has this id');
    if (entry.suspendedAtMs !== undefined)
      throw new VouchError(
        'denied-suspended',
        'this identity is suspended; the operator can lift that with `vouch entry resume`',
      );
    return entry;
  }

  /** Of this entry, and got by this agent; looked at again when it is issued. */
  #predecessorOf(
    { predecessor }: SvidRequest,
    { entryId }: RegistrationEntry,
    agent: CertificateStanding,
  ): CertificateStanding | undefined {
    if (predecessor === undefined) return undefined;
    const found = this.#store.certificatesBySerial(parseSerial(predecessor));
    const own = found.find((one) => one.entryId === entryId && one.agent === agent.spiffeId);
    if (!own || this.#issuance.timeMs() > own.notAfterMs + 999)
      throw new VouchError(
        'denied-certificate',
        'the certificate to renew is not one that this agent got for this entry, or has expired: ask without it',
      );
    if (this.#issuance.issuers.isRevoked(own.issuerKeyId)) throw issuerRevoked();
    if (own.revoked) throw new VouchError('denied-revoked', 'the certificate to renew is revoked');
    return own;
  }

  /** What was revoked before it was signed is handed to nobody. */
  #requireStanding({ record: { issuerKeyId, serial } }: IssuedCertificate): void {
    if (this.#issuance.issuers.isRevoked(issuerKeyId)) throw issuerRevoked();
    if (this.#store.certificate(issuerKeyId, serial)?.revoked)
      throw new VouchError('denied-revoked', 'this certificate was revoked while it was being issued');
  }
}

function readCsr(text: string): Buffer {
  const { success, data } = csrDer.safeParse(text);
  if (success) return data;
  throw new VouchError('request-csr', 'the CSR is not base64 of at most 16,384 bytes');
}

/** Two identities with one key are told apart by nobody, and an old key is what a renewal is to end. */
function requireFresh(
  { sha256 }: PublicKeyInfo,
  agent: CertificateStanding,
  predecessor: CertificateStanding | undefined,
): void {
  if (sha256 === agent.spkiSha256 || sha256 === predecessor?.spkiSha256)
    throw new VouchError('request-key', 'this key has a certificate already: make a new one for each');
}

/** What a certificate with these names takes in an answer, in bytes: never more than this. */
function answerBytes({ spiffeId, dnsNames, ipAddresses }: RegistrationEntry): number {
  const names = [spiffeId, ...dnsNames].reduce((sum, name) => sum + name.length + 4, 0);
  // Key, signature, extensions, audit path and checkpoint stay well below 8 KiB in base64 and hex.
  return 8192 + Math.ceil((names + ipAddresses.length * 18) / 3) * 4;
}
