import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** What a corporate CA may do otherwise than it should. */
export interface Certifying {
  extensions?: readonly string[];
  days?: number;
  /** Default `sha256`. */
  digest?: string;
  /** Whose key signs; default `policy`. */
  by?: 'policy' | 'corporate';
}

/** Extensions of a CA that OpenSSL accepts with -x509_strict. */
const caExtensions = ['keyUsage=critical,keyCertSign,cRLSign', 'subjectKeyIdentifier=hash'];
const authorityKeyId = 'authorityKeyIdentifier=keyid:always';

/** A root and a policy CA under it, which names of `permitted` only may be below, made by OpenSSL. */
export class CorporateCa {
  readonly root: string;
  readonly policy: string;
  readonly #folder: string;
  #files = 0;

  constructor(folder: string, constraints = 'critical,permitted;URI:test.example') {
    this.#folder = folder;
    for (const name of ['corporate', 'policy'])
      openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', this.#path(name));
    this.root = this.#path('corporate.pem');
    this.policy = this.#path('policy.pem');
    const subject = ['-key', this.#path('corporate'), '-subj', '/O=Corporate/CN=Corporate root'];
    const extensions = [...caExtensions, 'basicConstraints=critical,CA:TRUE'];
    const added = extensions.flatMap((extension) => ['-addext', extension]);
    const own = ['-addext', authorityKeyId];
    openssl('req', '-x509', ...subject, '-days', '3650', ...added, ...own, '-out', this.root);
    const request = this.#path('policy.csr');
    openssl('req', '-new', '-key', this.#path('policy'), '-subj', '/O=Corporate/CN=Policy', '-out', request);
    const pem = this.#certify(request, {
      by: 'corporate',
      extensions: [...extensions, authorityKeyId, `nameConstraints=${constraints}`],
    });
    writeFileSync(this.policy, pem);
  }

  /** PEM of a certificate for a request, with the extensions that it asks for unless others are given. */
  certify(csrPem: string, certifying: Certifying = {}): string {
    const request = this.#path(`${this.#files++}.csr`);
    writeFileSync(request, csrPem);
    return this.#certify(request, certifying);
  }

  /** PEM of a certificate for the request, the policy CA's and the root's. */
  chain(csrPem: string, certifying: Certifying = {}): string {
    const above = certifying.by === 'corporate' ? [this.root] : [this.policy, this.root];
    return [this.certify(csrPem, certifying), ...above.map((file) => readFileSync(file, 'utf8'))].join('');
  }

  /** PEM of a leaf for both ends of TLS that this CA made for a SPIFFE ID. */
  leaf(spiffeId: string): string {
    const [key, request] = [this.#path('leaf'), this.#path('leaf.csr')];
    openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', key);
    openssl('req', '-new', '-key', key, '-subj', '/O=Corporate', '-out', request);
    return this.#certify(request, {
      extensions: [
        'basicConstraints=critical,CA:FALSE',
        'keyUsage=critical,digitalSignature',
        'extendedKeyUsage=serverAuth,clientAuth',
        `subjectAltName=URI:${spiffeId}`,
        'subjectKeyIdentifier=hash',
        authorityKeyId,
      ],
    });
  }

  #certify(
    request: string,
    { extensions, days = 900, by = 'policy', digest = 'sha256' }: Certifying,
  ): string {
    const file = this.#path(`${this.#files++}.ext`);
    writeFileSync(file, `[ext]\n${(extensions ?? [authorityKeyId]).join('\n')}\n`);
    const issuer = by === 'policy' ? this.policy : this.root;
    const asked = extensions ? [] : ['-copy_extensions', 'copyall'];
    return openssl(
      ...['x509', '-req', '-in', request, '-CA', issuer, '-CAkey', this.#path(by), '-days', String(days)],
      ...[`-${digest}`, ...asked, '-extfile', file, '-extensions', 'ext'],
    );
  }

  #path(name: string): string {
    return join(this.#folder, `ca-${name}`);
  }
}

/** Runs OpenSSL; resolves to what it prints. Throws with what it complains of. */
export function openssl(...args: readonly string[]): string {
  return execFileSync('openssl', args, { encoding: 'utf8', stdio: 'pipe' });
}
