import { isIPv6 } from 'node:net';
import { ipBytes } from '../x509/ip-address.ts';

/** `::ffff:10.0.0.1` as `10.0.0.1`. */
export function unmapped(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice('::ffff:'.length) : address;
}

/** Whom limits take for one: an IPv4 address, or an IPv6 network of 64 bits, of which one host has all addresses. */
export function addressGroup(address: string): string {
  const plain = unmapped(address);
  if (!isIPv6(plain)) return plain;
  const [withoutZone = ''] = plain.split('%');
  return `${ipBytes(withoutZone)?.toString('hex', 0, 8) ?? plain}::/64`;
}
