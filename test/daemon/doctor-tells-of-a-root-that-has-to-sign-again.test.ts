import { expect, it } from 'vitest';
import { initAuthority, runVouch } from '../support/daemon.ts';
import { ShiftedClock } from '../support/shifted-clock.ts';

it('a month before its CRL and its statement end, and when they have', async () => {
  const authority = await initAuthority();
  const clock = new ShiftedClock(authority.path('time'));
  const findings = async (offset: string): Promise<{ severity: string; what: string }[]> => {
    clock.set(offset);
    const ran = await runVouch(['doctor', '--config', authority.config, '--json'], { env: clock.env });
    return (JSON.parse(ran.stdout) as { findings: { severity: string; what: string }[] }).findings.filter(
      ({ what }) => what.startsWith("the root's"),
    );
  };
  expect(await findings('+330d')).toEqual([]);
  const soon = await findings('+340d');
  expect(soon).toMatchObject([
    { severity: 'warning', what: expect.stringMatching(/^the root's CRL ends in 2\d days$/) as unknown },
    {
      severity: 'warning',
      what: expect.stringMatching(/^the root's statement ends in 2\d days$/) as unknown,
    },
  ]);
  expect((await findings('+370d')).map(({ severity }) => severity)).toEqual(['error', 'error']);
});
