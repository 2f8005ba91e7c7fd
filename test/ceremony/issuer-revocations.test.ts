import { describe, expect, it } from 'vitest';
import {
  encodeIssuerRevocations,
  type IssuerRevocation,
  parseIssuerRevocations,
  revokedWith,
} from '../../src/ceremony/issuer-revocations.ts';
import { rfc3339 } from '../../src/core/clock.ts';
import type { Serial } from '../../src/core/serial.ts';
import type { IssuerRevocationsJson } from '../../src/wire/ceremony.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { softwareCeremony } from './software-ceremony.ts';

const nowMs = Date.parse('2030-01-02T03:04:05Z');

function made() {
  const { request, files } = softwareCeremony(nowMs);
  const fileOf = (name: string): Buffer => files.get(name) ?? Buffer.alloc(0);
  const [issuer] = request.issuers;
  const rootDer = fileOf('root.cer');
  const issuerDer = fileOf(`issuer-${issuer?.keyId}.cer`);
  const json: IssuerRevocationsJson = {
    ...{ version: 1, kind: 'vouch-issuer-revocations', createdAt: rfc3339(nowMs) },
    trustDomain: request.trustDomain,
    issuers: [{ certificate: issuerDer.toString('base64'), reason: 'cACompromise', unexpired: 7 }],
  };
  const read = (text: string) =>
    parseIssuerRevocations(text, { root: parseCertificate(rootDer), trustDomain: request.trustDomain });
  return { json, read, issuer, issuerDer, rootDer };
}

describe('a file that asks for the end of issuers', () => {
  it('is read with the key id and serial of a certificate that the root signed', () => {
    const { json, read, issuer, issuerDer } = made();
    expect(read(encodeIssuerRevocations(json))).toMatchObject({
      createdAtMs: nowMs,
      issuers: [{ keyId: issuer?.keyId, serial: parseCertificate(issuerDer).serial, unexpired: 7 }],
    });
  });

  it('is refused where it is not what it was', () => {
    const { json, read, rootDer } = made();
    const [one] = json.issuers;
    if (!one) throw new Error('an issuer');
    const foreign = made().issuerDer.toString('base64');
    const spoilt = Buffer.from(one.certificate, 'base64');
    spoilt[spoilt.length - 1] = (spoilt.at(-1) ?? 0) ^ 1;
    const variants: [string, IssuerRevocationsJson | string][] = [
      ['not JSON', '{'],
      ['not in its one encoding', ` ${encodeIssuerRevocations(json)}`],
      ['trust domain', { ...json, trustDomain: 'evil.example' }],
      ['twice', { ...json, issuers: [one, one] }],
      ['this root did not sign', { ...json, issuers: [{ ...one, certificate: foreign }] }],
      ['this root did not sign', { ...json, issuers: [{ ...one, certificate: spoilt.toString('base64') }] }],
      ['this root did not sign', { ...json, issuers: [{ ...one, certificate: rootDer.toString('base64') }] }],
      ['not one that', { ...json, issuers: [{ ...one, reason: 'certificateHold' as never }] }],
    ];
    for (const [why, variant] of variants)
      expect(() => read(typeof variant === 'string' ? variant : encodeIssuerRevocations(variant))).toThrow(
        why,
      );
  });
});

describe('the next CRL', () => {
  const dateSeconds = nowMs / 1000 - 1000;
  const asked = (serial: string, reason: IssuerRevocation['reason']): IssuerRevocation => ({
    ...{ keyId: '1a'.repeat(20), serial: serial as Serial, reason, unexpired: 0 },
    ...{ notAfterMs: nowMs, invalidityDateSeconds: undefined },
  });
  const last = [
    { serial: '02' as Serial, dateSeconds, reason: 'superseded' as const },
    { serial: '0100' as Serial, dateSeconds, reason: 'unspecified' as const },
  ];

  it('lists what the last one did and the new, by the size of their serials', () => {
    const { all } = revokedWith(last, [asked('03', 'cACompromise')], nowMs / 1000);
    expect(all.map(({ serial }) => serial)).toEqual(['02', '03', '0100']);
    expect(all[1]).toEqual({ serial: '03', dateSeconds: nowMs / 1000, reason: 'cACompromise' });
  });

  it('keeps the date of what gets a worse reason, and takes no other', () => {
    const { all } = revokedWith(last, [asked('02', 'keyCompromise')], nowMs / 1000);
    expect(all).toEqual([{ serial: '02', dateSeconds, reason: 'keyCompromise' }, last[1]]);
    for (const reason of ['superseded', 'affiliationChanged'] as const)
      expect(() => revokedWith(last, [asked('02', reason)], nowMs / 1000)).toThrow(/only a worse reason/);
  });
});
