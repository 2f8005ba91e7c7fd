import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { createSecureContext } from 'node:tls';
import { VouchError } from '../core/errors.ts';
import { trustDomainOf } from '../core/spiffe-id.ts';
import type { ParsedCertificate } from '../x509/certificate.ts';
import { keyIdOf } from '../x509/public-key.ts';
import { type AllowedPeers, parseAllowed } from './allowed.ts';
import { readCrl, type VerifiedCrl, type VerifiedDelta, verifyCrl, verifyDelta, withDelta } from './crl.ts';
import {
  currentFolder,
  type Delivered,
  fileNames,
  readCrls,
  readDeltas,
  readDelivered,
} from './delivered.ts';
import type { Trust } from './peer.ts';

/** What a look at the delivered files brought. */
export interface Changes {
  certificate: boolean;
  crl: boolean;
}

/** A generation of which each file holds. */
interface Generation extends Delivered {
  allowedClients: AllowedPeers;
}

/** A larger crl.pem is read again only where its deltas do not say what has changed: a million entries take a second. */
const readAnewMaxBytes = 1024 * 1024;

/**
 * The delivered files as verified state. What is on disk and does not hold (a CRL with a wrong signature or a lower
 * number, a key that is not the certificate's, a list of callers that is none) is reported and the state before it goes
 * on counting.
 */
export class DeliveredTrust {
  readonly #dir: string;
  readonly #staleCrl: Trust['staleCrl'];
  readonly #problem: (error: unknown) => void;
  #delivered: Generation;
  #trust: Trust;
  #fulls: ReadonlyMap<string, VerifiedCrl> = new Map();
  #deltas: ReadonlyMap<string, VerifiedDelta> = new Map();
  #crlFile = '';
  #deltaFile = '';

  /** Throws `config-state` or `config-invalid` where nothing usable was delivered. */
  constructor(options: { dir: string; staleCrl: Trust['staleCrl']; problem: (error: unknown) => void }) {
    this.#dir = options.dir;
    this.#staleCrl = options.staleCrl;
    this.#problem = options.problem;
    this.#delivered = readUsable(this.#dir);
    this.#trust = trustOf(this.#delivered, new Map(), this.#staleCrl);
    this.#loadCrls();
  }

  get delivered(): Generation {
    return this.#delivered;
  }

  get trust(): Trust {
    return this.#trust;
  }

  /** Reads what changed since the last look. Never throws. */
  reload(): Changes {
    const changes = { certificate: false, crl: false };
    try {
      changes.certificate = this.#loadGeneration();
      changes.crl = this.#loadCrls() || changes.certificate;
    } catch (error) {
      this.#problem(error);
    }
    return changes;
  }

  /** Takes a CRL, full or delta, from a file or its URL. True where it is newer than what was known. Throws as `verifyCrl` does. */
  takeCrl(der: Buffer): boolean {
    const parsed = readCrl(der);
    const issuer = this.#authority(parsed.authorityKeyId ?? '');
    if (issuer === undefined) return false;
    const isDelta = parsed.deltaBase !== undefined;
    const keyId = keyIdOf(issuer.spki);
    const known = (isDelta ? this.#deltas : this.#fulls).get(keyId)?.crlNumber;
    if (known !== undefined && known === parsed.crlNumber) return false;
    if (isDelta) this.#deltas = new Map(this.#deltas).set(keyId, verifyDelta(parsed, issuer, known));
    else this.#fulls = new Map(this.#fulls).set(keyId, verifyCrl(parsed, issuer, known));
    this.#combine(keyId);
    return true;
  }

  /** Never backwards: while a new delta waits for the full CRL that it was made for, what both said before it counts. */
  #combine(keyId: string): void {
    const full = this.#fulls.get(keyId);
    if (full === undefined) return;
    const crl = withDelta(full, this.#deltas.get(keyId));
    const { crls } = this.#trust;
    if (crl.crlNumber >= (crls.get(keyId)?.crlNumber ?? 0n))
      this.#trust = { ...this.#trust, crls: new Map(crls).set(keyId, crl) };
  }

  #loadGeneration(): boolean {
    if (currentFolder(this.#dir) === this.#delivered.folder) return false;
    this.#delivered = readUsable(this.#dir);
    this.#trust = trustOf(this.#delivered, this.#trust.crls, this.#staleCrl);
    this.#crlFile = '';
    this.#deltaFile = '';
    return true;
  }

  /** The deltas first: they are small, and say whether the full CRLs have to be read. */
  #loadCrls(): boolean {
    const { folder } = this.#delivered;
    let newer = false;
    const delta = fileAt(resolve(folder, fileNames.delta));
    if (delta !== undefined && delta.identity !== this.#deltaFile) {
      newer = this.#takeAll(readDeltas(folder));
      this.#deltaFile = delta.identity;
    }
    const full = fileAt(resolve(folder, fileNames.crl));
    if (full?.identity === this.#crlFile) return newer;
    if (full && full.size > readAnewMaxBytes && this.#isCovered()) return newer;
    newer = this.#takeAll(readCrls(folder)) || newer;
    // Last: what could not be read, for want of a descriptor say, is read at the next look.
    this.#crlFile = full?.identity ?? '';
    return newer;
  }

  /** True where any was newer; one that does not hold is reported, and the others count. */
  #takeAll(crls: readonly Buffer[]): boolean {
    let newer = false;
    for (const der of crls) {
      if (this.#isKnown(der)) continue;
      try {
        newer = this.takeCrl(der) || newer;
      } catch (error) {
        this.#problem(error);
      }
    }
    return newer;
  }

  /** Every issuer's delta goes with the full CRL that is held. */
  #isCovered(): boolean {
    return [...this.#trust.issuers.keys()].every((keyId) => {
      const [full, delta] = [this.#fulls.get(keyId), this.#deltas.get(keyId)];
      return full !== undefined && delta !== undefined && delta.baseNumber <= full.crlNumber;
    });
  }

  #isKnown(der: Buffer): boolean {
    return [...this.#fulls.values(), ...this.#deltas.values()].some((crl) => crl.der.equals(der));
  }

  #authority(keyId: string): ParsedCertificate | undefined {
    return this.#trust.issuers.get(keyId) ?? this.#trust.roots.find((root) => keyIdOf(root.spki) === keyId);
  }
}

function trustOf(
  delivered: Delivered,
  crls: ReadonlyMap<string, VerifiedCrl>,
  staleCrl: Trust['staleCrl'],
): Trust {
  const known = [...delivered.issuers, ...delivered.otherIssuers];
  const issuers = new Map(known.map((issuer) => [keyIdOf(issuer.spki), issuer]));
  return { issuers, roots: delivered.roots, trustDomain: trustDomainOf(delivered.spiffeId), crls, staleCrl };
}

/** Size, and what tells a file from the one that stood there before; undefined where there is none. */
function fileAt(path: string): { identity: string; size: number } | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  return found && { identity: `${path} ${found.ino} ${found.mtimeMs} ${found.size}`, size: found.size };
}

function readUsable(dir: string): Generation {
  const delivered = readDelivered(dir);
  assertPair(delivered);
  return { ...delivered, allowedClients: parseAllowed(delivered.peers.allowedClients) };
}

function assertPair(delivered: Delivered): void {
  try {
    createSecureContext({ cert: delivered.chainPem, key: delivered.keyPem });
  } catch (cause) {
    throw new VouchError(
      'config-state',
      `the key in ${delivered.folder} is not the certificate's; enroll again`,
      { cause },
    );
  }
}
