import type { SpiffeId } from '../../core/spiffe-id.ts';
import { ipBytes } from '../../x509/ip-address.ts';

/** A connection as the local service is told of it. */
export interface Caller {
  spiffeId: SpiffeId;
  /** Textual IP addresses and ports of the peer and of our side. */
  remoteAddress: string;
  remotePort: number;
  localAddress: string;
  localPort: number;
}

const signature = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
/** PP2_TYPE_SSL with PP2_SUBTYPE_SSL_VERSION. */
const tlvSsl = 0x20;
const tlvSslVersion = 0x21;
/** Of the range that the protocol leaves to applications: the peer's SPIFFE ID, UTF-8. */
const tlvSpiffeId = 0xe1;
/** PP2_CLIENT_SSL, _CERT_CONN and _CERT_SESS: it came over TLS and showed a certificate, in this very session. */
const clientFlags = 0x07;

/**
 * The header of the PROXY protocol that stands in front of the caller's bytes. `v1` is one line of text; `v2` also says
 * that the caller's certificate was verified, and its SPIFFE ID.
 */
export function proxyHeader(version: 'v1' | 'v2', caller: Caller): Buffer {
  const [from, to] = [addressBytes(caller.remoteAddress), addressBytes(caller.localAddress)];
  const isKnown = from !== undefined && to !== undefined && from.length === to.length;
  const ports = [caller.remotePort, caller.localPort];
  if (version === 'v1') {
    if (!isKnown) return Buffer.from('PROXY UNKNOWN\r\n');
    const addresses = [unmapped(caller.remoteAddress), unmapped(caller.localAddress)];
    return Buffer.from(`PROXY TCP${from.length === 4 ? 4 : 6} ${addresses.join(' ')} ${ports.join(' ')}\r\n`);
  }
  const body = Buffer.concat([
    ...(isKnown ? [from, to, ...ports.map(uint16)] : []),
    ...tlvs(caller.spiffeId),
  ]);
  const family = !isKnown ? 0x00 : from.length === 4 ? 0x11 : 0x21;
  return Buffer.concat([signature, Buffer.of(0x21, family), uint16(body.length), body]);
}

function tlvs(spiffeId: SpiffeId): Buffer[] {
  const verified = Buffer.alloc(4);
  const ssl = Buffer.concat([Buffer.of(clientFlags), verified, tlv(tlvSslVersion, Buffer.from('TLSv1.3'))]);
  return [tlv(tlvSsl, ssl), tlv(tlvSpiffeId, Buffer.from(spiffeId))];
}

function tlv(type: number, value: Buffer): Buffer {
  return Buffer.concat([Buffer.of(type), uint16(value.length), value]);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function addressBytes(address: string): Buffer | undefined {
  return ipBytes(unmapped(address));
}

/** An IPv4 peer of a listener on `[::]` as what it is; without a zone, which means nothing to others. */
function unmapped(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '');
}
