import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { createSecureContext } from 'node:tls';
import { VouchError } from '../core/errors.ts';
import { trustDomainOf } from '../core/spiffe-id.ts';
import type { ParsedCertificate } from '../x509/certificate.ts';
import { keyIdOf } from '../x509/public-key.ts';
import { type AllowedPeers, parseAllowed } from './allowed.ts';
import { readCrl, type VerifiedCrl, verifyCrl } from './crl.ts';
import { currentFolder, type Delivered, fileNames, readCrls, readDelivered } from './delivered.ts';
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
  #crlFile = '';

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

  /** Takes a CRL from elsewhere (the URL). True where it is newer than what was known. Throws as `verifyCrl` does. */
  takeCrl(der: Buffer): boolean {
    const parsed = readCrl(der);
    const issuer = this.#authority(parsed.authorityKeyId ?? '');
    if (issuer === undefined) return false;
    const known = this.#trust.crls.get(keyIdOf(issuer.spki));
    const crl = verifyCrl(parsed, issuer, known?.crlNumber);
    if (known !== undefined && known.crlNumber === crl.crlNumber) return false;
    this.#trust = { ...this.#trust, crls: new Map(this.#trust.crls).set(crl.issuerKeyId, crl) };
    return true;
  }

  #loadGeneration(): boolean {
    if (currentFolder(this.#dir) === this.#delivered.folder) return false;
    this.#delivered = readUsable(this.#dir);
    this.#trust = trustOf(this.#delivered, this.#trust.crls, this.#staleCrl);
    this.#crlFile = '';
    return true;
  }

  #loadCrls(): boolean {
    const { folder } = this.#delivered;
    const { ino, mtimeMs, size } = statSync(resolve(folder, fileNames.crl));
    const file = `${folder} ${ino} ${mtimeMs} ${size}`;
    if (file === this.#crlFile) return false;
    let newer = false;
    for (const der of readCrls(folder)) {
      if (this.#isKnown(der)) continue;
      try {
        newer = this.takeCrl(der) || newer;
      } catch (error) {
        this.#problem(error);
      }
    }
    // Last: what could not be read, for want of a descriptor say, is read at the next look.
    this.#crlFile = file;
    return newer;
  }

  #isKnown(der: Buffer): boolean {
    return [...this.#trust.crls.values()].some((crl) => crl.der.equals(der));
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
