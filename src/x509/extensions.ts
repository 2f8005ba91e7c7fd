import { tags } from './der.ts';
import { type DerReader, malformed } from './der-reader.ts';

/** One extension: its OID, and a cursor over what its OCTET STRING contains. */
export interface Extension {
  oid: string;
  critical: boolean;
  value: DerReader;
}

const maxExtensions = 64;

/**
 * The SEQUENCE OF Extension at the cursor: at least one, none twice (RFC 5280 §4.2), `critical` only where TRUE.
 * Serves certificates, CSRs and CRLs. Throws `request-malformed`.
 */
export function readExtensions(reader: DerReader): Extension[] {
  const list = reader.enterFilled(tags.sequence, 'extensions');
  const found: Extension[] = [];
  while (!list.done) {
    const start = list.at;
    const extension = readExtension(list);
    if (found.some((other) => other.oid === extension.oid))
      malformed(`extension ${extension.oid} stands twice`, start);
    if (found.push(extension) > maxExtensions) malformed(`more than ${maxExtensions} extensions`, start);
  }
  return found;
}

function readExtension(list: DerReader): Extension {
  const reader = list.enter(tags.sequence, 'extension');
  const oid = reader.oid('extension type');
  const critical = reader.tag === tags.boolean && reader.trueOnly('critical');
  const value = reader.enter(tags.octetString, 'extension value');
  reader.finish('extension');
  return { oid, critical, value };
}
