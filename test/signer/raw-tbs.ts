import { explicit, oid, sequence } from '../../src/x509/der.ts';
import { DerReader } from '../../src/x509/der-reader.ts';

/** A TBS with one more extension; the one with the OID `instead` is left out. */
export function withExtension(tbs: Buffer, extension: Buffer, instead?: string): Buffer {
  const fields = elements(tbs);
  const wrapped = fields.at(-1);
  const list = wrapped && elements(wrapped)[0];
  if (!list) throw new Error('a TBS with extensions');
  const kept = elements(list).filter((one) => !instead || !elements(one)[0]?.equals(oid(instead)));
  return sequence(...fields.slice(0, -1), explicit(3, sequence(...kept, extension)));
}

/** The elements inside a constructed one, each with its header. */
function elements(der: Buffer): Buffer[] {
  const reader = new DerReader(der).enter(der[0] ?? 0, 'element');
  const found: Buffer[] = [];
  while (!reader.done) found.push(reader.element(reader.tag, 'element'));
  return found;
}

/** A TBSCertList with one more extension. */
export function withCrlExtension(tbs: Buffer, extension: Buffer): Buffer {
  const fields = elements(tbs);
  const wrapped = fields.at(-1);
  const list = wrapped && elements(wrapped)[0];
  if (!list) throw new Error('a TBSCertList with extensions');
  return sequence(...fields.slice(0, -1), explicit(0, sequence(...elements(list), extension)));
}
