import { writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { X509Certificate } from 'node:crypto';
import { parseCrl } from '../../src/x509/crl.ts';
import { buildCsr } from '../../src/x509/csr.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { svidsAnswerSchema } from '../../src/wire/agent.ts';
import { enroll, newKey, post } from '../edge/client.ts';
import { createEntry } from '../support/jwt.ts';
import { type Authority, bootAuthority, initAuthority, type Workload } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';
import { runTool } from '../x509/oracle-tools.ts';
import { limitMs } from '../support/limits.ts';

const afterMs = 5000;

/** `openssl verify` as a peer calls it that was handed this crl.pem, with every CRL of the path checked. */
function verified(peer: Workload, by: Workload): string {
  const files = ['-CAfile', by.path('bundle.pem'), '-untrusted', peer.path('svid.pem')];
  const crls = ['-CRLfile', by.path('crl.pem')];
  const flags = ['verify', '-x509_strict', '-crl_check_all'];
  return runTool('openssl', ...flags, ...files, ...crls, peer.path('svid.pem')).output;
}

async function ready(authority: Authority): Promise<{ status: number; degraded: string[] }> {
  const response = await fetch(`${authority.server.ready.operationsUrl}/readyz`);
  const { checks } = (await response.json()) as { checks: { name: string; degraded?: string }[] };
  return { status: response.status, degraded: checks.flatMap((check) => check.degraded ?? []) };
}

async function metric(authority: Authority, name: string): Promise<string | undefined> {
  const text = await (await fetch(`${authority.server.ready.operationsUrl}/metrics`)).text();
  return text.match(new RegExp(`^${name} (\\S+)$`, 'm'))?.[1];
}

/** Whether the full CRL of an issuer lists this serial. */
async function isListed(authority: Authority, issuerKeyId: string, serial: string): Promise<boolean> {
  const response = await fetch(`${authority.server.ready.publicationUrl}/crl/${issuerKeyId}.crl`);
  return parseCrl(Buffer.from(await response.arrayBuffer())).has(serial as never);
}

/** When the first signer last answered, Unix milliseconds; 0 before it has. */
async function lastSuccessMs(authority: Authority): Promise<number> {
  return 1000 * Number(await metric(authority, 'vouch_signer_last_success_seconds'));
}

async function problems(authority: Authority): Promise<string[]> {
  const ran = await authority.vouch('log', 'verify', '--state', authority.state);
  return (JSON.parse(ran.stdout) as { problems: string[] }).problems;
}

describe('an authority with a standby', () => {
  let authority: Authority;
  let orders: Workload;
  let billing: Workload;
  let host: Workload;
  let web: string;
  let first: string;
  let standby: string;

  beforeAll(async () => {
    authority = await bootAuthority({ standby: true });
    const { issuers } = await authority.status();
    [first = '', standby = ''] = issuers.map(({ keyId }) => keyId);
    orders = await authority.enroll('orders');
    host = await authority.enroll('host');
    web = await createEntry(authority, 'web', 'host');
    // A first that has not signed for 3 s on end counts as away since the start.
    const since = await lastSuccessMs(authority);
    await eventually(async () => (await lastSuccessMs(authority)) - since > 4000);
  });

  /** What the agent of `host` gets for its workload, in one call. */
  async function svids(...predecessors: readonly (string | undefined)[]) {
    const requests = predecessors.map((predecessor) => {
      const csr = buildCsr(newKey()).toString('base64');
      return { entryId: web, csr, ...(predecessor === undefined ? {} : { predecessor }) };
    });
    const shown = { cert: host.read('svid.pem'), key: host.read('svid.key') };
    const answer = await post(authority.server.ready.enrollmentUrl, '/v1/svids', { requests }, shown);
    expect(answer.status, answer.text).toBe(200);
    return svidsAnswerSchema.parse(JSON.parse(answer.text)).results;
  }

  it('issues by the first while that signs; CRLs and CA certificates of both are served', async () => {
    expect(orders.delivery.issuerKeyId).toBe(first);
    const status = await authority.status();
    expect(status).toMatchObject({
      state: 'ready',
      signer: { state: 'usable' },
      standby: { state: 'usable' },
    });
    expect(await authority.issuing()).toBe(first);
    expect(new Set(status.crls.map((crl) => crl.issuerKeyId))).toEqual(new Set([first, standby]));
    expect(status.crls).toHaveLength(36);
    const { publicationUrl } = authority.server.ready;
    for (const keyId of [first, standby]) {
      const der = Buffer.from(await (await fetch(`${publicationUrl}/ca/${keyId}.cer`)).arrayBuffer());
      expect(new X509Certificate(der).ca).toBe(true);
    }
    expect(await metric(authority, 'vouch_standby_usable')).toBe('1');
    expect(await metric(authority, 'vouch_standby_issuing')).toBe('0');
  });

  it('issues by the standby once the first has been away for as long as configured, within 3 s', async () => {
    const { path } = await authority.join('waiting');
    const key = newKey();
    const { enrollmentUrl } = authority.server.ready;
    const [before] = await svids(undefined);
    if (!before || !('certificate' in before)) throw new Error('the first signs');
    const { serial } = parseCertificate(before.certificate);
    const putBack = await authority.takeAway('online');
    const started = performance.now();
    // An agent that asks again and again, for a new one and for one in place of what the first issued.
    const asking = (async () => {
      const issuers: string[] = [];
      for (let wanted = [serial, undefined]; wanted.length > 0; ) {
        const results = await svids(...wanted);
        issuers.push(...results.flatMap((one) => ('certificate' in one ? one.issuerKeyId : [])));
        const missing = results.filter((one) => !('certificate' in one));
        for (const one of missing)
          expect(one).toMatchObject({
            problem: { code: 'unavailable-signer', retryAfterSeconds: expect.any(Number) },
          });
        wanted = wanted.filter((_, at) => !('certificate' in (results[at] ?? {})));
      }
      return issuers;
    })();
    // A client that tries again and again with one key: its first attempt is logged under the first issuer.
    const answers = [503];
    while (answers.at(-1) === 503) answers.push((await enroll(enrollmentUrl, path, key)).status);
    const tookMs = performance.now() - started;
    expect(answers.at(-1)).toBe(200);
    expect(tookMs).toBeGreaterThan(afterMs - 1000);
    expect(tookMs).toBeLessThan(afterMs + limitMs(3000));
    expect(await asking).toEqual([standby, standby]);
    billing = await authority.enroll('billing');
    expect(billing.delivery.issuerKeyId).toBe(standby);
    expect(await ready(authority)).toEqual({ status: 200, degraded: [expect.stringContaining('degraded')] });
    expect(await metric(authority, 'vouch_signer_usable')).toBe('1');
    expect(await metric(authority, 'vouch_standby_issuing')).toBe('1');
    expect(await authority.status()).toMatchObject({ state: 'degraded', standby: { state: 'usable' } });

    // A renewal of what the first issued.
    const oldSerial = orders.serial;
    const renewed = await authority.vouch('renew', '--dir', orders.dir);
    expect(renewed.json<{ issuerKeyId: string }>().issuerKeyId).toBe(standby);
    expect(verified(orders, billing)).toContain('OK');

    // A revocation of what the first issued.
    const revoked = await authority.vouch(
      'revoke',
      '--serial',
      oldSerial,
      '--only',
      '--reason',
      'superseded',
      '--yes',
    );
    expect(revoked.json()).toMatchObject({
      published: false,
      crlNumber: null,
      revoked: [{ serial: oldSerial }],
    });
    expect(await ready(authority)).toMatchObject({ status: 200 });
    expect(await isListed(authority, first, oldSerial)).toBe(false);
    // One of the standby's own is out at once.
    const own = await authority.vouch(
      'revoke',
      '--serial',
      billing.serial,
      '--reason',
      'superseded',
      '--yes',
    );
    expect(own.json()).toMatchObject({ published: true, crlUrl: expect.stringContaining(standby) });
    expect(await problems(authority)).toEqual([]);

    putBack();
    await eventually(() => isListed(authority, first, oldSerial), 20_000);
    await eventually(async () => (await authority.issuing()) === first, 20_000);
    await eventually(async () => (await authority.status()).state === 'ready');
    expect((await authority.status()).problems).toEqual([]);
    expect(await problems(authority)).toEqual([]);
  }, 60_000);

  it('delivers the CRLs of both, so that each knows the other’s peers: OpenSSL takes what is not revoked', async () => {
    const peer = await authority.enroll('payments');
    expect(peer.delivery.issuerKeyId).toBe(first);
    expect(verified(orders, peer)).toContain('OK');
    expect(verified(peer, orders)).toContain('OK');
    expect(verified(billing, peer)).toContain('certificate revoked');
  });

  it('goes on after a restart from a checkpoint of either, and its log is whole', async () => {
    const putBack = await authority.takeAway('online');
    await eventually(async () => (await authority.issuing()) === standby, 20_000);
    await authority.enroll('shipping');
    await authority.server.end();
    // The newest checkpoint is the standby's; the first is behind it.
    putBack();
    await authority.start();
    expect(await authority.issuing()).toBe(first);
    await eventually(async () => (await authority.status()).state === 'ready');
    expect((await authority.enroll('returns')).delivery.issuerKeyId).toBe(first);
    await authority.server.end();
    expect(await problems(authority)).toEqual([]);
  }, 60_000);
});

it('a server that starts without the first token issues by the standby; with neither it serves what is signed', async () => {
  const authority = await initAuthority({ standby: true });
  await authority.start();
  const { issuers } = await authority.status();
  const crlStatus = async (keyId: string): Promise<number> =>
    (await fetch(`${authority.server.ready.publicationUrl}/crl/${keyId}.crl`)).status;
  // A server is ready before its standby has signed.
  for (const { keyId } of issuers) await eventually(async () => (await crlStatus(keyId)) === 200);
  const putFirstBack = await authority.takeAway('online');
  const putStandbyBack = await authority.takeAway('standby');
  await authority.server.end();
  const starting = authority.launch();
  await starting.until(({ stdout }) => stdout.includes('\n'), 30_000);
  for (const { keyId } of issuers) expect(await crlStatus(keyId)).toBe(200);
  expect((await ready(authority)).status).toBe(503);
  putStandbyBack();
  await eventually(async () => (await authority.issuing()) === issuers[1]?.keyId, 20_000);
  expect((await authority.enroll('orders')).delivery.issuerKeyId).toBe(issuers[1]?.keyId);
  putFirstBack();
  await eventually(async () => (await authority.issuing()) === issuers[0]?.keyId, 20_000);
}, 90_000);

it('names both tokens at init: a third one, and none of them twice', async () => {
  const authority = await initAuthority();
  writeFileSync(`${authority.folder}/again.json`, JSON.stringify(authority.tokens.online), { mode: 0o600 });
  const state = authority.path('other');
  const ran = await authority.init('--state', state, '--standby-hsm-file', `${authority.folder}/again.json`);
  expect([ran.code, ran.problem.detail]).toEqual([2, expect.stringContaining('another token')]);
  authority.configure((config) => Object.assign(config, { standby: { hsm: authority.tokens.root } }));
  const refused = await authority.refusal();
  expect([refused.code, refused.problem.detail]).toEqual([78, expect.stringContaining('no issuer for it')]);
});
