import { X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { crlPem } from '../../src/agent/deliver/files.ts';
import type { CrlTemplate } from '../../src/x509/crl-tbs.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { isListed, strangerOf } from './support/executable.ts';
import { type FakeAuthority, seconds } from './support/fake-authority.ts';
import type { FakeServer } from './support/fake-server.ts';
import { startAuthority, workload } from './support/harness.ts';

let authority: FakeAuthority;
let server: FakeServer;
let one: ReturnType<typeof workload>;

beforeEach(async () => {
  ({ authority, server } = await startAuthority());
  authority.crlNumber = 50n;
  one = workload(server);
  expect(await one.enroll()).toMatchObject({ code: 0 });
});

const away = () => {
  server.crlInstead = () => ({ status: 503 });
};

/** Writes both CRLs as if they had been delivered. */
const hold = (over: Partial<CrlTemplate> = {}): void =>
  writeFileSync(
    join(one.dir, 'current', 'crl.pem'),
    crlPem([authority.issuer, authority.root].map((ca) => authority.crl(ca, over))),
  );

const serialOf = (pem: string): string => new X509Certificate(pem).serialNumber;

const stale = {
  thisUpdateSeconds: seconds(Date.now()) - 7200,
  nextUpdateSeconds: seconds(Date.now()) - 3600,
};

describe('a renewal while no CRL can be fetched', () => {
  test('goes on with the held ones, and says so', async () => {
    const before = one.read('crl.pem');
    const serial = serialOf(one.read('svid.pem'));
    away();
    const renewed = await one.renew();
    expect(renewed).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('the one held is used') as string,
    });
    expect(serialOf(one.read('svid.pem'))).not.toBe(serial);
    expect(one.read('crl.pem')).toBe(before);
  });

  test('does not where they have ended, unless --crl allow-stale says so', async () => {
    const stranger = strangerOf(authority);
    authority.revoke(stranger);
    hold(stale);
    away();
    expect(await one.renew('--timeout', '1')).toMatchObject({ code: 75 });
    expect(await one.renew('--crl', 'allow-stale')).toMatchObject({ code: 0 });
    expect(isListed(one.read('crl.pem'), stranger), 'what is known to be revoked stays known').toBe(true);
  });

  test('does not where they are older than one seen', async () => {
    const path = join(one.dir, 'agent.json');
    writeFileSync(path, readFileSync(path, 'utf8').replaceAll('"50"', '"60"'));
    away();
    expect(await one.renew('--timeout', '1')).toMatchObject({ code: 75 });
  });

  test('is refused where our issuer is on one', async () => {
    authority.revoke(parseCertificate(authority.issuer.der).serial, 'cACompromise');
    hold();
    away();
    for (const policy of ['require', 'allow-stale']) {
      const { code, stderr } = await one.renew('--crl', policy);
      expect(code).toBe(1);
      expect(stderr).toContain('"denied-revoked"');
    }
  });

  test('does not where what is served does not hold: that is no outage', async () => {
    server.crlInstead = () => ({ status: 200, body: '<html>' });
    expect(await one.renew()).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('integrity-crl') as string,
    });
    expect(await one.renew('--crl', 'allow-stale')).toMatchObject({ code: 0 });
    expect(one.read('crl.pem')).not.toBe('');
  });
});
