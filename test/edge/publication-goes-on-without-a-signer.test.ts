import { renameSync } from 'node:fs';
import { expect, it } from 'vitest';
import { parseCrl } from '../../src/x509/crl.ts';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';
import { signalTo } from '../support/signal.ts';
import { enroll, problemIn } from './client.ts';
import { limitMs } from '../support/limits.ts';

/** An authority with one workload, seen from outside. */
class Observed {
  readonly authority: Authority;
  readonly orders: Workload;

  private constructor(authority: Authority, orders: Workload) {
    this.authority = authority;
    this.orders = orders;
  }

  static async make(): Promise<Observed> {
    const authority = await bootAuthority();
    return new Observed(authority, await authority.enroll('orders'));
  }

  async status(): Promise<{ signer: { state: string; pid: number | null }; log: { treeSize: number } }> {
    return (await this.authority.vouch('status')).json();
  }

  /** Everything is served, quickly. */
  async expectServed(): Promise<void> {
    const issuer = this.orders.delivery.issuerKeyId;
    const crls = [`/crl/${issuer}.crl`, `/crl/${issuer}/0.crl`, `/ca/${issuer}.cer`];
    for (const path of ['/bundle.json', '/bundle.pem', '/log/checkpoint', ...crls]) {
      const started = performance.now();
      const response = await fetch(this.authority.server.ready.publicationUrl + path);
      expect(response.status, path).toBe(200);
      await response.arrayBuffer();
      expect(performance.now() - started).toBeLessThan(limitMs(1000));
    }
    expect((await fetch(`${this.authority.server.ready.operationsUrl}/livez`)).status).toBe(200);
  }

  async readiness(): Promise<{ status: number; text: string }> {
    const response = await fetch(`${this.authority.server.ready.operationsUrl}/readyz`);
    return { status: response.status, text: await response.text() };
  }

  async crlLists({ serial, delivery }: Workload): Promise<boolean> {
    const response = await fetch(
      `${this.authority.server.ready.publicationUrl}/crl/${delivery.issuerKeyId}.crl`,
    );
    const crl = parseCrl(Buffer.from(await response.arrayBuffer()));
    return crl.has(serial as Parameters<typeof crl.has>[0]);
  }

  /** Stops every signer that comes up, for as long as the work takes. */
  async withoutSigner(work: () => Promise<void>): Promise<void> {
    const stopped = new Set<number>();
    let over = false;
    const stopping = (async () => {
      while (!over) {
        const { pid } = (await this.status()).signer;
        if (pid !== null && !stopped.has(pid)) signalTo(pid, 'SIGSTOP');
        if (pid !== null) stopped.add(pid);
      }
    })();
    await work().finally(() => {
      over = true;
    });
    await stopping;
  }
}

it.concurrent('signers that hang, one after the other: revocations are recorded, and published when one signs again', async () => {
  const observed = await Observed.make();
  const { authority, orders } = observed;
  await observed.withoutSigner(async () => {
    await eventually(async () => (await observed.status()).signer.state !== 'usable');
    await observed.expectServed();
    const revoking = await authority.vouch('revoke', '--serial', orders.serial, '--reason', 'keyCompromise');
    expect(revoking.json()).toMatchObject({ revoked: [{ serial: orders.serial }] });
    await observed.expectServed();
  });
  await eventually(() => observed.crlLists(orders), 20_000);
  expect((await authority.vouch('log', 'verify', '--state', authority.state)).json()).toMatchObject({
    problems: [],
  });
}, 60_000);

it.concurrent('a token that is gone: not ready and saying why, and ready again when it is back', async () => {
  const observed = await Observed.make();
  const { authority, orders } = observed;
  const late = await authority.join('late');
  const tokens = `${authority.folder}/online/tokens`;
  renameSync(tokens, `${tokens}.away`);
  signalTo(authority.server.ready.signerPid, 'SIGKILL');
  await eventually(async () => (await observed.readiness()).status === 503);
  await observed.expectServed();
  expect((await observed.readiness()).text).toMatch(/"name":"signer","problem":"[^"]+/);
  // Peers learn that nothing can be signed, and nothing of why.
  for (let attempt = 0; attempt < 3; attempt += 1) {
    const refused = problemIn(await enroll(authority.server.ready.enrollmentUrl, late.path));
    expect(refused).toMatchObject({ status: 503, code: 'unavailable-signer' });
    expect(refused.detail).not.toMatch(/\/|CKR|C_[A-Z]|PIN|SoftHSM/);
  }
  const { treeSize } = (await observed.status()).log;
  const [revoking, publishing] = await Promise.all([
    authority.vouch('revoke', '--serial', orders.serial, '--reason', 'superseded'),
    authority.vouch('crl', 'publish'),
  ]);
  expect(revoking.json()).toMatchObject({ published: false, revoked: [{ serial: orders.serial }] });
  expect([publishing.code, publishing.problem.code]).toEqual([75, 'unavailable-signer']);
  // Attempts at a CRL cost no leaves while none can be signed: there is the revocation's, and the operator's deed.
  expect((await observed.status()).log.treeSize).toBe(treeSize + 2);
  await eventually(async () =>
    /"name":"crl","problem":"not published/.test((await observed.readiness()).text),
  );

  renameSync(`${tokens}.away`, tokens);
  await eventually(async () => (await observed.readiness()).status === 200);
  await eventually(() => observed.crlLists(orders));
}, 60_000);
