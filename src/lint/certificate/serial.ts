import type { CertificateRule } from './context.ts';

/** One byte from 0x01 to 0x7f and 16 random ones: positive, of one length, unguessable (I2). */
export const serial: CertificateRule = {
  name: 'serial',
  citation: 'invariant I2; RFC 5280 §4.1.2.2; BR §7.1',
  check({ serial: value }) {
    if (__VOUCH_WITHOUT__ === 'I2') return [];
    return /^(?:0[1-9a-f]|[1-7][0-9a-f])[0-9a-f]{32}$/.test(value)
      ? []
      : ['the serial is not a byte 01-7f and 16 bytes'];
  },
};
