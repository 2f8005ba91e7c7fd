import { readCrl, type VerifiedCrl, verifyCrl, verifyLargeCrl } from '../../client/crl.ts';
import { asVouchError, VouchError } from '../../core/errors.ts';
import type { ParsedCertificate } from '../../x509/certificate.ts';
import { tags } from '../../x509/der.ts';
import { DerReader } from '../../x509/der-reader.ts';
import { keyIdOf } from '../../x509/public-key.ts';

/** A larger one is read in slices, between which connections have their turns. */
const readAtOnceMaxBytes = 64 * 1024;

/** What somebody here verified already, by the very bytes; undefined where nobody did. */
export type KnownCrl = (der: Buffer) => VerifiedCrl | undefined;

/**
 * The CRLs that an agent serves, verified once: one that does not hold, or is older than the one before, is reported, and the
 * one before goes on counting.
 */
export class ServedCrls {
  readonly #problem: (line: string) => void;
  readonly #known: KnownCrl;
  #verified: ReadonlyMap<string, VerifiedCrl> = new Map();

  constructor(problem: (line: string) => void, known: KnownCrl = () => undefined) {
    this.#problem = problem;
    this.#known = known;
  }

  /** By the key id of the CA that signed it, which must be one of `authorities`. */
  async take(
    ders: readonly Buffer[],
    authorities: readonly ParsedCertificate[],
  ): Promise<ReadonlyMap<string, VerifiedCrl>> {
    for (const der of ders) {
      if ([...this.#verified.values()].some((known) => known.der === der || known.der.equals(der))) continue;
      try {
        const crl = this.#taken(der, authorities) ?? (await this.#verify(der, authorities));
        this.#verified = new Map(this.#verified).set(crl.issuerKeyId, crl);
      } catch (error) {
        this.#problem(asVouchError(error).detail);
      }
    }
    return this.#verified;
  }

  /** What was verified already, where it is of one of these CAs and no older than what counts. */
  #taken(der: Buffer, authorities: readonly ParsedCertificate[]): VerifiedCrl | undefined {
    const known = this.#known(der);
    if (known === undefined || !authorities.some(({ spki }) => keyIdOf(spki) === known.issuerKeyId))
      return undefined;
    return known.crlNumber < (this.#verified.get(known.issuerKeyId)?.crlNumber ?? 0n) ? undefined : known;
  }

  /** Issuers that follow one another may have one name: the key that signed it decides. */
  async #verify(der: Buffer, authorities: readonly ParsedCertificate[]): Promise<VerifiedCrl> {
    const name = issuerNameOf(der);
    const candidates = authorities.filter(({ subjectName }) => subjectName.equals(name));
    let refusal: unknown = new VouchError('integrity-crl', 'a CRL is of no CA that is known; it is not used');
    for (const authority of candidates) {
      try {
        const floor = this.#verified.get(authority.subjectKeyId ?? '')?.crlNumber;
        if (der.length > readAtOnceMaxBytes) return await verifyLargeCrl(der, authority, floor);
        return verifyCrl(readCrl(der), authority, floor);
      } catch (error) {
        refusal = error;
      }
    }
    throw refusal;
  }
}

/** The DER of a CRL's issuer. Throws `request-malformed`. */
function issuerNameOf(der: Buffer): Buffer {
  const tbs = new DerReader(der).enter(tags.sequence, 'CertificateList').enter(tags.sequence, 'TBSCertList');
  if (tbs.tag === tags.integer) tbs.skip('version');
  tbs.expect(tags.sequence, 'signature');
  return tbs.element(tags.sequence, 'issuer');
}
