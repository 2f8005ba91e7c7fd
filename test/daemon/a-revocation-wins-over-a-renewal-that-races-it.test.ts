import { X509Certificate } from 'node:crypto';
import { beforeAll, expect, it } from 'vitest';
import { parseCrl } from '../../src/x509/crl.ts';
import { dial, renewBody, send } from '../edge/client.ts';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';

let authority: Authority;

beforeAll(async () => {
  authority = await bootAuthority();
});

interface Row {
  serial: string;
  state: string;
}

/** Renews again and again, each time the newest it has, until it is refused. */
async function renewUntilRefused(workload: Workload): Promise<{ serials: string[]; refusal: string }> {
  const serials: string[] = [];
  const tls = { cert: workload.read('svid.pem'), key: workload.read('svid.key') };
  const ask = async () => {
    const socket = await dial(authority.server.ready.enrollmentUrl, tls);
    const body = JSON.stringify(renewBody(socket, new X509Certificate(tls.cert)));
    return send(socket, { path: '/v1/renew', body, headers: { 'content-type': 'application/json' } });
  };
  for (;;) {
    // The revocation cuts the connections of its certificate, whatever they are in the middle of.
    const answer = await ask().catch(() => undefined);
    if (answer === undefined) continue;
    if (answer.status !== 200) return { serials, refusal: answer.text };
    const { chain } = JSON.parse(answer.text) as { chain: string[] };
    serials.push(new X509Certificate(Buffer.from(chain[0] ?? '', 'base64')).serialNumber.toLowerCase());
  }
}

it.each([
  ['--serial', 4, /"code":"denied-revoked"/],
  // The identity is suspended first, so that nothing is issued while its certificates are revoked.
  ['--id', 4, /"code":"denied-(revoked|suspended)"/],
] as const)(
  '`vouch revoke %s` while %i clients renew: nothing of that lineage stays valid',
  async (by, clients, words) => {
    const name = `racer${by}`;
    const workload = await authority.enroll(name);
    const racing = Array.from({ length: clients }, () => renewUntilRefused(workload));
    await new Promise((done) => setTimeout(done, 150));
    const what = by === '--serial' ? workload.serial : authority.id(name);
    const revoked = (await authority.vouch('revoke', by, what, '--reason', 'keyCompromise', '--yes')).json<{
      published: boolean;
      revoked: Row[];
    }>();
    const raced = await Promise.all(racing);
    expect(raced.flatMap(({ serials }) => serials).length).toBeGreaterThan(0);
    for (const { refusal } of raced) expect(refusal).toMatch(words);

    const { certificates } = (
      await authority.vouch('cert', 'list', '--id', authority.id(name), '--limit', '1000')
    ).json<{ certificates: Row[] }>();
    expect(certificates.length).toBeGreaterThan(clients);
    expect(certificates.filter(({ state }) => state !== 'revoked')).toEqual([]);
    expect(revoked.published).toBe(true);
    expect(revoked.revoked.map(({ serial }) => serial).sort()).toEqual(
      certificates.map(({ serial }) => serial).sort(),
    );

    const response = await fetch(
      `${authority.server.ready.publicationUrl}/crl/${workload.delivery.issuerKeyId}.crl`,
    );
    const crl = parseCrl(Buffer.from(await response.arrayBuffer()));
    for (const { serial } of certificates)
      expect(crl.has(serial as Parameters<typeof crl.has>[0])).toBe(true);
  },
);

it('`--only` ends the one: its renewals live on', async () => {
  const workload = await authority.enroll('only');
  const renewed = (await authority.vouch('renew', '--dir', workload.dir)).json<{ serial: string }>();
  const revoked = (
    await authority.vouch('revoke', '--serial', workload.serial, '--only', '--reason', 'superseded')
  ).json<{ revoked: Row[] }>();
  expect(revoked.revoked.map(({ serial }) => serial)).toEqual([workload.serial]);
  expect((await authority.vouch('cert', 'show', renewed.serial)).json()).toMatchObject({ state: 'valid' });
  expect((await authority.vouch('renew', '--dir', workload.dir)).code).toBe(0);
});

it('the log is whole', async () => {
  expect((await authority.vouch('log', 'verify', '--state', authority.state)).json()).toMatchObject({
    problems: [],
  });
});
