import { hash } from 'node:crypto';
import { setImmediate as aTurn } from 'node:timers/promises';
import type { Clock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import type { RegistrationEntry } from '../core/registration.ts';
import { parseSerial } from '../core/serial.ts';
import {
  type Issuance,
  type IssuedCertificate,
  type IssueRequest,
  issuerRevoked,
} from '../issuance/issue.ts';
import { type Profile, profileNamed } from '../issuance/profile.ts';
import { FairQueue } from '../jobs/fair-queue.ts';
import { Slice, startInSlices } from '../jobs/slice.ts';
import type { StoreReader } from '../store/port.ts';
import type { CertificateStanding } from '../store/records.ts';
import { type SvidRequest, svidsAnswerMaxBytes } from '../wire/agent.ts';
import { csrDer } from '../wire/enrollment.ts';
import { parseCsr, verifyCsrAside } from '../x509/csr.ts';
import { requireAgent } from './client-certificate.ts';
import type { Channel } from './enroll.ts';
import { refuseForeignNames } from './requested-names.ts';
import { SvidAllowance, type SvidLimits } from './svid-allowance.ts';

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

/** What is checked before a part of it goes into the log, and shares a commit there: larger ones would keep who asks for one waiting for longer. */
const groupMax = 32;

/** Of each group for first certificates, where renewals would fill it. */
const firstsShare = groupMax / 4;

/** Certificates that may wait for their turn; of first ones fewer, so that who already runs finds room. */
const renewalsMax = 2048;
const firstsMax = 1536;

/** Who waited longer is told to come back: an agent does not wait for an answer much longer. */
const waitMaxMs = 8000;

interface Waiting {
  request: SvidRequest;
  call: SvidCall;
  /** Monotonic. */
  sinceMs: number;
  resolve: (issued: IssuedCertificate) => void;
  reject: (error: unknown) => void;
}

/** Of one that waits everything is checked but what the log looks at. */
interface Checked {
  waiting: Waiting;
  asked: IssueRequest;
  /** It came to nothing: what it took of its agent's allowance is there again. */
  giveBack: () => void;
}

interface Parts {
  store: Pick<
    StoreReader,
    'entry' | 'entryCountOf' | 'certificate' | 'certificatesBySerial' | 'unexpiredCertificates'
  >;
  issuance: Pick<Issuance, 'issue' | 'issuers' | 'timeMs'>;
  clock: Pick<Clock, 'monotonicMs'>;
  /** The profile that an entry names. */
  profiles?: (name: string) => Profile;
  limits: SvidLimits;
}

/**
 * The certificates that agents ask for in the name of their workloads, each on its own: entry → predecessor → allowance →
 * CSR → issuance, so that what is cheap to refuse costs little. That the agent is who it says is its TLS identity, that a
 * key is held by somebody the CSR's own signature (ADR 15).
 */
export class Svids {
  readonly #store: Parts['store'];
  readonly #issuance: Parts['issuance'];
  readonly #clock: Parts['clock'];
  readonly #profiles: (name: string) => Profile;
  readonly #allowance: SvidAllowance;
  readonly #renewals = new FairQueue<Waiting>(renewalsMax);
  readonly #firsts = new FairQueue<Waiting>(firstsMax);
  /** SHA-256 of the keys that certificates are being made for. */
  readonly #keys = new Set<string>();
  #isRunning = false;

  constructor(parts: Parts) {
    this.#store = parts.store;
    this.#issuance = parts.issuance;
    this.#clock = parts.clock;
    this.#profiles = parts.profiles ?? profileNamed;
    this.#allowance = new SvidAllowance(parts.store, parts.limits);
  }

  /**
   * One certificate, when it is its turn: renewals come first, and agents one after another. Throws `denied-no-entry` for an entry that is not this
   * agent's, whether or not there is one, `unavailable-overloaded` and `unavailable-rate-limited`, and what CSR, entry, issuance refuse with.
   */
  issue(request: SvidRequest, call: SvidCall): Promise<IssuedCertificate> {
    return new Promise((resolve, reject) => {
      const queue = request.predecessor === undefined ? this.#firsts : this.#renewals;
      const waiting = { request, call, sinceMs: this.#clock.monotonicMs(), resolve, reject };
      queue.add(call.agent.lineage, waiting)?.reject(overloaded());
      if (!this.#isRunning) void this.#run();
    });
  }

  /** One group after another, whoever asked: no more than two are in the log, so that who comes next waits for few. */
  async #run(): Promise<void> {
    this.#isRunning = true;
    await aTurn();
    let [last, before]: Promise<unknown>[] = [Promise.resolve(), Promise.resolve()];
    while (this.#renewals.size + this.#firsts.size > 0) {
      const checked: Checked[] = [];
      await startInSlices(this.#next(), async (waiting) => {
        await this.#check(waiting).then((one) => checked.push(one), waiting.reject);
      });
      await before;
      const { promise: together, resolve: go } = Promise.withResolvers<void>();
      const slice = new Slice();
      const issuing: Promise<void>[] = [];
      for (const one of checked) {
        issuing.push(this.#issue(one, together));
        if (slice.isOver) await slice.turn();
      }
      go();
      [before, last] = [last, Promise.all(issuing)];
    }
    this.#isRunning = false;
  }

  #next(): Waiting[] {
    const kept = Math.min(this.#firsts.size, firstsShare);
    const renewals = this.#renewals.take(groupMax - kept);
    return [...renewals, ...this.#firsts.take(groupMax - renewals.length)];
  }

  /** Cheap looks first; what is bad in the CSR alone is found last. */
  async #check(waiting: Waiting): Promise<Checked> {
    const { request, call, sinceMs } = waiting;
    const { agent, channel } = call;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - sinceMs > waitMaxMs) throw overloaded();
    requireAgent(agent);
    const entry = this.#entryOf(request.entryId, agent);
    call.room -= answerBytes(entry);
    if (call.room < 0)
      throw new VouchError('request-too-large', 'the answer would become too large: ask for fewer at once');
    const predecessor = this.#predecessorOf(request, entry, agent);
    const csr = parseCsr(readCsr(request.csr));
    refuseForeignNames(csr, entry);
    const profile = this.#profiles(entry.profile);
    const keySha256 = hash('sha256', csr.spki, 'hex');
    this.#requireFresh(keySha256, agent);
    this.#keys.add(keySha256);
    try {
      const lifetimeSeconds = entry.lifetimeSeconds ?? profile.lifetimeSeconds;
      const giveBack = this.#allowance.take(agent, entry, lifetimeSeconds, nowMs);
      const asked = {
        ...{ names: entry, publicKey: await verifyCsrAside(csr), predecessor, agent, profile },
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
      };
      return { waiting, asked, giveBack };
    } catch (error) {
      this.#keys.delete(keySha256);
      throw error;
    }
  }

  /** Into the log, with those that wait for `together`, too. Never rejects. */
  async #issue({ waiting, asked, giveBack }: Checked, together: Promise<void>): Promise<void> {
    try {
      const issued = await this.#issuance.issue({ ...asked, together });
      this.#requireStanding(issued);
      waiting.resolve(issued);
    } catch (error) {
      giveBack();
      waiting.reject(error);
    } finally {
      this.#keys.delete(asked.publicKey.sha256);
    }
  }

  /** Two identities with one key are told apart by nobody, and an old key is what a renewal is to end. */
  #requireFresh(sha256: string, agent: CertificateStanding): void {
    const by = { spkiSha256: sha256 };
    if (
      sha256 === agent.spkiSha256 ||
      this.#keys.has(sha256) ||
      this.#store.unexpiredCertificates(by, this.#issuance.timeMs(), { limit: 1 }).length > 0
    )
      throw new VouchError('request-key', 'this key has a certificate already: make a new one for each');
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

function overloaded(): VouchError {
  return new VouchError(
    'unavailable-overloaded',
    'agents ask for more certificates than can be made now, this one for most of them or for long: ask again, for what is urgent first',
    { retryAfterSeconds: 1 + Math.random() * 4 },
  );
}

/** What a certificate with these names takes in an answer, in bytes: never more than this. */
function answerBytes({ spiffeId, dnsNames, ipAddresses }: RegistrationEntry): number {
  const names = [spiffeId, ...dnsNames].reduce((sum, name) => sum + name.length + 4, 0);
  // Key, signature, extensions, audit path and checkpoint stay well below 8 KiB in base64 and hex.
  return 8192 + Math.ceil((names + ipAddresses.length * 18) / 3) * 4;
}
