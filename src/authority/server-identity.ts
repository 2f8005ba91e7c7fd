import type { Serial } from '../core/serial.ts';
import type { TrustDomain } from '../core/spiffe-id.ts';
import type { Issuance } from '../issuance/issue.ts';
import { encodePem } from '../x509/pem.ts';
import {
  issueServerCertificate,
  type ServerCertificate,
  storedServerCertificate,
} from './server-certificate.ts';

interface Parts {
  issuance: Issuance;
  trustDomain: TrustDomain;
  /** URLs whose hosts are the certificate's names. */
  urls: readonly string[];
  /** DER, issuer first, root last: what is above what this issuer issues. */
  authoritiesOf: (issuerKeyId: string) => readonly Buffer[];
  rootDer: Buffer;
  files: { certificate: string; key: string };
  /** True for a certificate of ours that an operator ended. */
  isRevoked: (certificate: { issuerKeyId: string; serial: Serial }) => boolean;
  /** Unix milliseconds to go by, also while the clock is in doubt (I12): what it makes of a certificate is no news then. */
  timeMs: () => number;
}

/** What a TLS listener shows, and the only root that its clients may chain to. */
export interface ShownIdentity {
  certificatePem: string;
  keyPem: string;
  rootsPem: string;
}

/** The server's own TLS certificate through its life: issued like any other, stored, renewed at half of it. */
export class ServerIdentity {
  readonly #parts: Parts;
  #now: ServerCertificate | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** The stored certificate; undefined where it is missing, expired or for other names. */
  stored(): ShownIdentity | undefined {
    const { files, issuance, timeMs } = this.#parts;
    const issuers = issuance.issuers.all.map(({ keyId }) => keyId);
    this.#now = storedServerCertificate(files, this.#names(), issuers, timeMs());
    return this.#now && this.#shown(this.#now);
  }

  /** A new one where there is none, half of its life has passed or it is revoked. Rejects where there can be none now. */
  async renewedWhenDue(): Promise<ShownIdentity | undefined> {
    if (this.#now && !this.#isDue(this.#now)) return undefined;
    this.#now = await issueServerCertificate({ ...this.#parts, names: this.#names() });
    return this.#shown(this.#now);
  }

  /** Why the enrollment listener can show nothing that an agent takes; undefined where it can. */
  problem(): string | undefined {
    if (!this.#now) return 'the server has no TLS certificate of its own yet';
    return this.#parts.timeMs() > this.#now.notAfterMs
      ? "the server's own TLS certificate has expired"
      : undefined;
  }

  /** Also one that begins later: it was made while the clock was ahead, and no peer takes it. */
  #isDue(certificate: ServerCertificate): boolean {
    const { notBeforeMs, renewAtMs } = certificate;
    const nowMs = this.#parts.timeMs();
    return nowMs > renewAtMs || nowMs < notBeforeMs || this.#parts.isRevoked(certificate);
  }

  #shown({ certificatePem, keyPem }: ServerCertificate): ShownIdentity {
    return { certificatePem, keyPem, rootsPem: encodePem('CERTIFICATE', this.#parts.rootDer) };
  }

  #names(): string[] {
    return [...new Set(this.#parts.urls.map((url) => new URL(url).hostname.replace(/^\[|\]$/g, '')))];
  }
}
