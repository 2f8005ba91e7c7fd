import { X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { parseCrl } from '../../src/x509/crl.ts';
import { type Authority, initAuthority, type Workload } from '../support/daemon.ts';
import { eventually, type Json } from '../support/running.ts';
import { ShiftedClock } from '../support/shifted-clock.ts';

/** An authority whose server has a clock of its own. */
class ClockedAuthority {
  readonly authority: Authority;
  readonly clock: ShiftedClock;

  private constructor(authority: Authority) {
    this.authority = authority;
    this.clock = new ShiftedClock(authority.path('time'));
  }

  /** `signerToo`: the signer's clock moves as well, as where both run on one machine. */
  static async make(signerToo = false): Promise<ClockedAuthority> {
    const clocked = new ClockedAuthority(await initAuthority());
    if (signerToo)
      clocked.authority.configure(({ hsm }) => {
        hsm.environment = { ...hsm.environment, ...clocked.clock.env };
      });
    return clocked;
  }

  async start(): Promise<void> {
    await this.authority.start({ env: this.clock.env });
  }

  /** Sets the clock, and waits until the server has seen it. */
  async step(offset: string): Promise<void> {
    // The mark is persisted each second; what was reached before the step must be in it.
    await new Promise((done) => setTimeout(done, 1200));
    this.clock.set(offset);
    await eventually(async () =>
      (await this.checks()).some(({ name, problem }) => name === 'clock' && problem !== undefined),
    );
  }

  async checks(): Promise<{ name: string; problem?: string }[]> {
    const response = await fetch(`${this.authority.server.ready.operationsUrl}/readyz`);
    return ((await response.json()) as { checks: { name: string; problem?: string }[] }).checks;
  }

  async crl(workload: Workload) {
    const url = `${this.authority.server.ready.publicationUrl}/crl/${workload.delivery.issuerKeyId}.crl`;
    return parseCrl(Buffer.from(await (await fetch(url)).arrayBuffer()));
  }
}

describe.concurrent.each([
  ['an hour back', '-1h', /the wall clock is 3[56]\d\d s behind the time already reached/],
  ['ten days ahead', '+10d', /the wall clock jumped 864\d\d\d s ahead/],
])('a clock %s', (_name, offset, words) => {
  it('stops issuance, and nothing else, until it is right again', async () => {
    const clocked = await ClockedAuthority.make();
    const { authority } = clocked;
    await clocked.start();
    const [orders, billing] = await Promise.all([authority.enroll('orders'), authority.enroll('billing')]);
    const late = await authority.join('late');
    const before = await clocked.crl(orders);
    await clocked.step(offset);

    const out = authority.path('late');
    const enrolling = await authority.vouch(
      'enroll',
      '--join-file',
      late.path,
      '--out',
      out,
      '--timeout',
      '1',
    );
    expect(enrolling.code).toBe(75);
    expect(enrolling.problem.detail).toMatch(words);
    expect(enrolling.problem.detail).toContain('vouch doctor --accept-clock');
    expect(authority.server.log()).toContainEqual(
      expect.objectContaining({ route: '/v1/enroll', code: 'policy-clock' }),
    );

    const renewing = await authority.vouch('renew', '--dir', orders.dir, '--timeout', '1');
    expect(renewing.code).toBe(75);
    expect(renewing.problem.detail).toMatch(words);

    const creating = await authority.vouch(
      'token',
      'create',
      '--id',
      authority.id('x'),
      '--out',
      authority.path('x'),
    );
    expect(creating.code).toBe(1);
    expect(creating.problem.code).toBe('policy-clock');

    const [doctor, status] = await Promise.all([authority.vouch('doctor'), authority.vouch('status')]);
    expect(doctor.code).toBe(1);
    expect(JSON.parse(doctor.stdout)).toMatchObject({
      findings: [
        {
          severity: 'error',
          what: expect.stringMatching(words) as unknown,
          remedy: expect.stringContaining('--accept-clock') as unknown,
        },
      ],
    });
    expect(status.json()).toMatchObject({ state: 'degraded' });
    const metrics = await (await fetch(`${authority.server.ready.operationsUrl}/metrics`)).text();
    expect(metrics).toMatch(/^vouch_clock_in_doubt 1$/m);

    // Revocations are taken and published; no peer is shown a CRL of the wrong time.
    const revoking = await authority.vouch('revoke', '--serial', billing.serial, '--reason', 'keyCompromise');
    const answer = revoking.json<{ published: boolean; revoked: { revokedAt: string }[] }>();
    expect(answer).toMatchObject({ published: true, revoked: [{ serial: billing.serial }] });
    expect(Date.parse(answer.revoked[0]?.revokedAt ?? '')).toBeGreaterThan(Date.now() - 60_000);
    const crl = await clocked.crl(orders);
    expect(crl.has(billing.delivery.serial as never)).toBe(true);
    expect(crl.crlNumber).toBeGreaterThan(before.crlNumber ?? 0n);
    expect(crl.thisUpdateSeconds).toBeGreaterThan(before.thisUpdateSeconds);
    expect(crl.thisUpdateSeconds * 1000).toBeLessThanOrEqual(Date.now());
    expect(crl.nextUpdateSeconds).toBeGreaterThanOrEqual(before.nextUpdateSeconds);

    // The same join file, once the clock is right: nothing was used up.
    clocked.clock.set('+0');
    const enrolled = await authority.vouch('enroll', '--join-file', late.path, '--out', out);
    expect(enrolled.json()).toMatchObject({ spiffeId: authority.id('late') });
    const certificate = new X509Certificate(orders.read('svid.pem'));
    expect(Math.abs(certificate.validFromDate.getTime() - Date.now())).toBeLessThan(10 * 60_000);
    expect((await authority.vouch('log', 'verify', '--state', authority.state)).json()).toMatchObject({
      problems: [],
    });
  }, 60_000);
});

it.concurrent.each([
  ['an hour back', '-1h', -3_600_000, 'behind'],
  ['nine days ahead', '+9d', 9 * 86_400_000, 'ahead'],
])(
  '%s stays in doubt over a restart, since the mark is on disk; `vouch doctor --accept-clock` resolves it, and is logged',
  async (_name, offset, offsetMs, words) => {
    const clocked = await ClockedAuthority.make(true);
    const { authority } = clocked;
    await clocked.start();
    const orders = await authority.enroll('orders');
    const late = await authority.join('late');
    (await authority.vouch('revoke', '--serial', orders.serial)).json();
    await clocked.step(offset);
    await authority.server.end();
    await clocked.start();
    expect((await authority.vouch('status')).json()).toMatchObject({ state: 'degraded' });
    const out = authority.path('late');
    const enroll = () =>
      authority.vouch(
        'enroll',
        '--join-file',
        late.path,
        '--out',
        out,
        '--timeout',
        '1',
        '--crl',
        'allow-stale',
      );
    const refused = await enroll();
    expect([refused.code, refused.problem.detail]).toEqual([75, expect.stringContaining('accept-clock')]);
    // A signer that starts on a clock that is behind signs none: those that are served stay as they are.
    for (let round = 0; round < 2; round += 1)
      expect([0, 75]).toContain((await authority.vouch('crl', 'publish')).code);
    const crl = await clocked.crl(orders);
    expect(crl.has(orders.delivery.serial as never)).toBe(true);
    expect(crl.thisUpdateSeconds * 1000).toBeLessThanOrEqual(Date.now());

    const accepted = (await authority.vouch('doctor', '--accept-clock')).json<{
      accepted: string;
      doubt: string;
    }>();
    expect(accepted.doubt).toContain(words);
    expect(Math.abs(Date.parse(accepted.accepted) - (Date.now() + offsetMs))).toBeLessThan(30_000);
    // CRLs that the other clock dated may be a problem now; the clock is none.
    const { problems } = (await authority.vouch('status')).json<{ problems: string[] }>();
    expect(problems.filter((problem) => problem.includes('clock'))).toEqual([]);
    const issued = await authority.vouch('cert', 'list', '--id', authority.id('late'));
    expect(issued.json()).toMatchObject({ certificates: [] });

    const { records } = (await authority.vouch('audit')).json<{ records: Json[] }>();
    expect(records).toContainEqual(
      expect.objectContaining({
        type: 'operator',
        verb: 'clock-accepted',
        operator: `uid:${process.getuid?.()}`,
      }),
    );
  },
  60_000,
);

it('a clock an hour back on the whole machine, the signer too, holds up no revocation', async () => {
  const clocked = await ClockedAuthority.make(true);
  const { authority } = clocked;
  await clocked.start();
  const orders = await authority.enroll('orders');
  await clocked.step('-1h');
  const revoked = await authority.vouch('revoke', '--serial', orders.serial, '--reason', 'keyCompromise');
  expect(revoked.json()).toMatchObject({ published: true, revoked: [{ serial: orders.serial }] });
}, 60_000);
