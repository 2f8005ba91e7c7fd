import { type DerReader, malformed } from './der-reader.ts';
import { ipText } from './ip-address.ts';

/** The subjectAltName entries that Vouch works with, and how many there are of any other type. */
export interface GeneralNames {
  uris: string[];
  dnsNames: string[];
  /** Canonical text (RFC 5952). */
  ipAddresses: string[];
  otherNames: number;
}

/** Context tags of GeneralName (RFC 5280 §4.2.1.6). */
export const generalNameTags = { dns: 0x82, directory: 0xa4, uri: 0x86, ip: 0x87 } as const;

/** otherName, rfc822Name, dNSName, x400Address, directoryName, ediPartyName, URI, iPAddress, registeredID. */
const knownTags = new Set([0xa0, 0x81, 0x82, 0xa3, 0xa4, 0xa5, 0x86, 0x87, 0x88]);

/**
 * Entries of a GeneralNames, the cursor being inside its SEQUENCE, at least one and at most `maxNames`. Types that
 * Vouch does not work with are counted and never looked into. Throws `request-malformed`.
 */
export function readGeneralNames(names: DerReader, maxNames: number): GeneralNames {
  const found: GeneralNames = { uris: [], dnsNames: [], ipAddresses: [], otherNames: 0 };
  for (let count = 1; !names.done; count++) {
    if (count > maxNames) malformed(`more than ${maxNames} names`, names.at);
    switch (names.tag) {
      case generalNameTags.uri:
        found.uris.push(filled(names.ascii(generalNameTags.uri, 'URI'), names));
        break;
      case generalNameTags.dns:
        found.dnsNames.push(filled(names.ascii(generalNameTags.dns, 'DNS name'), names));
        break;
      case generalNameTags.ip:
        found.ipAddresses.push(readIp(names));
        break;
      default:
        skipGeneralName(names);
        found.otherNames++;
    }
  }
  return found;
}

/** Steps over one GeneralName; a type that does not exist is refused. */
export function skipGeneralName(names: DerReader): void {
  if (!knownTags.has(names.skip('name'))) malformed('name of a type that does not exist', names.contentStart);
}

function filled(text: string, names: DerReader): string {
  return text === '' ? malformed('name is empty', names.contentStart) : text;
}

function readIp(names: DerReader): string {
  const bytes = names.content(generalNameTags.ip, 'IP address');
  return ipText(bytes) ?? malformed('IP address is not of 4 or 16 bytes', names.contentStart);
}
