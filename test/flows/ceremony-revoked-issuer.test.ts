import { createServer } from 'node:https';
import { connect } from 'node:tls';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { openVouch, type VouchEvent } from '../../src/client/main.ts';
import type { Serial } from '../../src/core/serial.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { parseCrl } from '../../src/x509/crl.ts';
import { decodePem } from '../../src/x509/pem.ts';
import { listening } from '../client/support.ts';
import { enroll, newKey, problemIn } from '../edge/client.ts';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';
import { jsonOf, madeOnTwoMachines, RootMachine, TwoMachines } from '../support/two-machines.ts';
import { runTool } from '../x509/oracle-tools.ts';

interface Requested {
  file: string;
  sha256: string;
  issuers: { keyId: string; reason: string; unexpired: number }[];
}
interface Imported {
  revokedIssuers: string[];
  served: boolean;
}
interface State {
  issuers: { keyId: string; state: string; issuing: boolean; revoked: { reason: string } | null }[];
  state: string;
}

/** Asks for an end of these issuers. */
async function asked(authority: Authority, keyIds: readonly string[], ...more: string[]): Promise<Requested> {
  const out = authority.path('revoke.json');
  const args = ['ceremony', '--revoke-issuer', ...keyIds, '--out', out, ...more];
  return (await authority.vouch(...args)).json<Requested>();
}

/** The file of a ceremony that ends issuers; the server runs. */
async function ceremonyOf(machines: TwoMachines, { file, sha256 }: Requested) {
  const { bundle, crl } = await machines.served(machines.authority.server.ready.publicationUrl);
  return {
    renew: { bundle },
    crl: { last: crl },
    root: { key: { use: { label: 'vouch-root' } } },
    revoke: { file: machines.toRoot(file), sha256 },
  };
}

async function crlOf(authority: Authority, keyId: string) {
  const response = await fetch(`${authority.server.ready.publicationUrl}/crl/${keyId}.crl`);
  return parseCrl(Buffer.from(await response.arrayBuffer()));
}

/** The issuer above a workload. */
function issuerDerOf(workload: Workload): Buffer {
  return decodePem(workload.read('svid.pem'), 'CERTIFICATE')[1] ?? Buffer.alloc(0);
}

async function states(authority: Authority): Promise<State['issuers']> {
  return (await authority.vouch('status')).json<State>().issuers;
}

async function findings(authority: Authority): Promise<{ severity: string; what: string }[]> {
  const ran = await authority.vouch('doctor');
  const { findings: all } = JSON.parse(ran.stdout) as { findings: { severity: string; what: string }[] };
  return all.filter(({ what }) => what.includes('revoked the issuer'));
}

describe('an issuer beside a standby', () => {
  let authority: Authority;
  let machines: TwoMachines;
  let orders: Workload;
  let gone: Workload;
  let billing: Workload;
  let first: string;
  let standby: string;
  let rootKeyId: string;
  let issuerSerial: Serial;

  beforeAll(async () => {
    authority = await bootAuthority({ standby: true });
    machines = new TwoMachines(authority, new RootMachine(authority.folder, authority.tokens.root));
    [first = '', standby = ''] = (await authority.status()).issuers.map(({ keyId }) => keyId);
    orders = await authority.enroll('orders');
    gone = await authority.enroll('gone');
    expect(orders.delivery.issuerKeyId).toBe(first);
    const { serial, authorityKeyId = '' } = parseCertificate(issuerDerOf(orders));
    [issuerSerial, rootKeyId] = [serial, authorityKeyId];
  }, 60_000);

  it('is ended by a ceremony that shows what ends with it', async () => {
    const request = await asked(authority, [first], '--invalidity-date', '2026-01-02T03:04:05Z');
    expect(request.issuers).toEqual([{ keyId: first, reason: 'cACompromise', unexpired: 3 }]);
    const file = await ceremonyOf(machines, request);
    const shown = (
      await machines.root.vouch(['ceremony', '--file', machines.root.file(file).file, '--json'])
    ).json<{ revocations: object[]; items: { what: string }[] }>();
    expect(shown.revocations).toEqual([
      expect.objectContaining({ keyId: first, reason: 'cACompromise', unexpired: 3 }),
    ]);
    expect(shown.items[0]?.what).toBe('root CRL, 1 revoked, 1 by this ceremony');
    const result = await machines.root.hold(file);
    const transcript = jsonOf(result, 'transcript.json') as {
      signed: { kind: string; revoked?: object[] }[];
    };
    expect(transcript.signed[0]?.revoked).toEqual([
      expect.objectContaining({ keyId: first, serial: issuerSerial, invalidityDate: '2026-01-02T03:04:05Z' }),
    ]);
    const imported = (await machines.importRenewal(result)).json<Imported>();
    expect(imported).toMatchObject({ revokedIssuers: [first], served: true });
    const [listed] = [...(await crlOf(authority, rootKeyId)).revoked()];
    expect(listed).toMatchObject({
      ...{ serial: issuerSerial, reason: 'cACompromise' },
      invalidityDateSeconds: Date.parse('2026-01-02T03:04:05Z') / 1000,
    });
    expect((await machines.importRenewal(result)).problem.code, 'taken once').toBe('policy-conflict');
  }, 60_000);

  it('issues nothing any more, at once: the standby does, whatever its `after` says', async () => {
    const known = await states(authority);
    expect(known.find(({ keyId }) => keyId === first)).toMatchObject({
      ...{ state: 'tainted', issuing: false, revoked: { reason: 'cACompromise' } },
    });
    expect(known.find(({ keyId }) => keyId === standby)).toMatchObject({ issuing: true, revoked: null });
    // Until the server shows a certificate of the standby's, an agent refuses it.
    billing = await eventually(() =>
      authority.enroll('billing', '--allowed-client', authority.id('*')).catch(() => undefined),
    );
    expect(billing.delivery.issuerKeyId).toBe(standby);
    expect(await findings(authority)).toMatchObject([{ severity: 'warning' }]);
  }, 30_000);

  it('renews nothing that it issued', async () => {
    const refused = await authority.vouch('renew', '--dir', orders.dir);
    expect(refused.problem.code).toBe('denied-revoked');
  });

  it('goes on with its own CRL', async () => {
    const before = (await crlOf(authority, first)).crlNumber ?? 0n;
    const revoked = await authority.vouch(
      'revoke',
      '--serial',
      gone.serial,
      '--reason',
      'superseded',
      '--yes',
    );
    expect(revoked.json()).toMatchObject({ published: true });
    const crl = await crlOf(authority, first);
    expect(crl.crlNumber ?? 0n).toBeGreaterThan(before);
    expect(crl.has(gone.serial as Serial)).toBe(true);
  });

  it('is refused by whoever reads the delivered files: openssl and vouch/client', async () => {
    const { output } = runTool(
      'openssl',
      ...['verify', '-x509_strict', '-crl_check_all', '-CAfile', billing.path('bundle.pem')],
      ...[
        '-untrusted',
        orders.path('svid.pem'),
        '-CRLfile',
        billing.path('crl.pem'),
        orders.path('svid.pem'),
      ],
    );
    expect(output).toContain('error 23 at 1 depth lookup');
    const events: VouchEvent[] = [];
    const vouch = await openVouch({ dir: billing.dir, onEvent: (event) => events.push(event) });
    onTestFinished(() => vouch.close());
    const server = createServer(vouch.serverOptions(), (_request, response) => response.end());
    vouch.secure(server);
    const port = await listening(server);
    const socket = connect({
      ...{ host: '127.0.0.1', port, rejectUnauthorized: false },
      ...{ cert: orders.read('svid.pem'), key: orders.read('svid.key') },
    });
    socket.on('error', () => undefined);
    onTestFinished(() => void socket.destroy());
    await eventually(() =>
      events.some((event) => event.type === 'refused' && event.code === 'denied-revoked'),
    );
  }, 30_000);

  it('stays so after a restart, and the log says all of it', async () => {
    await authority.server.end();
    await authority.start();
    expect((await authority.vouch('renew', '--dir', orders.dir)).problem.code).toBe('denied-revoked');
    expect((await authority.enroll('more')).delivery.issuerKeyId).toBe(standby);
    expect((await crlOf(authority, first)).has(gone.serial as Serial)).toBe(true);
    expect(await machines.logProblems()).toEqual([]);
    await authority.server.end();
  }, 60_000);
});

describe('the only issuer', () => {
  let machines: TwoMachines;
  let workload: Workload;
  let current: string;
  let next: string;

  beforeAll(async () => {
    machines = await madeOnTwoMachines('--next-issuers', '1');
    const { authority } = machines;
    await authority.start();
    [current = '', next = ''] = (await authority.status()).issuers.map(({ keyId }) => keyId);
    workload = await authority.enroll('orders');
  }, 60_000);

  it('and one that never began are ended while no server runs', async () => {
    const { authority, root } = machines;
    const file = await ceremonyOf(
      machines,
      await asked(authority, [current, next], '--reason', 'superseded'),
    );
    const result = await root.hold(file);
    await authority.server.end();
    const imported = (await machines.importRenewal(result)).json<Imported>();
    expect(imported).toMatchObject({ revokedIssuers: [current, next], served: false });
    expect(await machines.logProblems()).toEqual([]);
    await authority.start();
    expect((await states(authority)).map(({ keyId, state }) => [keyId, state])).toEqual([
      [current, 'tainted'],
      [next, 'retired'],
    ]);
    expect(await findings(authority)).toMatchObject([{ severity: 'error' }, { severity: 'error' }]);
    expect((await authority.vouch('status')).json<State>().state).toBe('degraded');
  }, 60_000);

  it('leaves a server that refuses to issue, says what to do, and publishes', async () => {
    const { authority } = machines;
    const { path } = await authority.join('late');
    const refused = await enroll(authority.server.ready.enrollmentUrl, path, newKey());
    expect(problemIn(refused)).toMatchObject({
      ...{ status: 503, code: 'unavailable-issuer' },
      detail: expect.stringContaining('docs/ceremony.md') as string,
    });
    expect((await authority.vouch('renew', '--dir', workload.dir)).problem.code).toBe('denied-revoked');
    const ready = await fetch(`${authority.server.ready.operationsUrl}/readyz`);
    expect(ready.status).toBe(503);
    expect(await ready.text()).toContain(`no issuer may issue: ${current}`);
    const revoked = await authority.vouch(
      'revoke',
      '--serial',
      workload.serial,
      '--reason',
      'superseded',
      '--yes',
    );
    expect(revoked.json()).toMatchObject({ published: true });
  }, 60_000);

  it('is not revoked twice for what is no worse', async () => {
    const { authority, root } = machines;
    const request = await asked(authority, [current], '--reason', 'affiliationChanged');
    const { file } = root.file(await ceremonyOf(machines, request));
    const shown = await root.vouch(['ceremony', '--file', file, '--json']);
    expect(shown.problem.detail).toContain('only a worse reason changes that');
  }, 30_000);

  it('is told worse of by a later ceremony, with the date that it had', async () => {
    const { authority, root } = machines;
    const rootKeyId = parseCertificate(issuerDerOf(workload)).authorityKeyId ?? '';
    const before = [...(await crlOf(authority, rootKeyId)).revoked()];
    const request = await asked(authority, [current], '--reason', 'keyCompromise');
    const result = await root.hold(await ceremonyOf(machines, request));
    expect((await machines.importRenewal(result)).json<Imported>().revokedIssuers).toEqual([current]);
    const { serial } = parseCertificate(issuerDerOf(workload));
    const after = [...(await crlOf(authority, rootKeyId)).revoked()];
    const changed = before.map((one) => (one.serial === serial ? { ...one, reason: 'keyCompromise' } : one));
    expect(after).toEqual(changed);
    expect((await states(authority)).find(({ keyId }) => keyId === current)?.revoked?.reason).toBe(
      'keyCompromise',
    );
    expect(await machines.logProblems()).toEqual([]);
  }, 60_000);
});
