import { expect, it } from 'vitest';
import { enroll, newKey } from '../edge/client.ts';
import { type Authority, bootAuthority, type Status } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';

async function problems(authority: Authority): Promise<string[]> {
  const ran = await authority.vouch('log', 'verify', '--state', authority.state);
  return (JSON.parse(ran.stdout) as { problems: string[] }).problems;
}

it('clients enroll while both signers are killed at random: each gets its certificate, and the log is whole', async () => {
  const authority = await bootAuthority({ standby: true });
  const { path } = await authority.join('orders', '--uses', '10000');
  const stop = new AbortController();
  const failures: string[] = [];
  let issued = 0;
  const load = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      const answer = await enroll(authority.server.ready.enrollmentUrl, path, newKey());
      if (answer.status === 200) issued += 1;
      else failures.push(`${answer.status} ${answer.text}`);
    }
  };
  const running = Promise.all(Array.from({ length: 6 }, load));
  let restarts = 0;
  for (let kill = 0; kill < 10; kill += 1) {
    const { signer, standby } = await eventually(async () => {
      // By the verb: its process takes the time in which a signer that was just killed is missed.
      const status = (await authority.vouch('status')).json<Status>();
      return status.signer.pid !== null && status.standby?.pid !== null ? status : undefined;
    });
    const pids = [signer.pid, standby?.pid].filter((_, index) => ((kill % 3) + 1) & (index + 1));
    for (const pid of pids) if (typeof pid === 'number') process.kill(pid, 'SIGKILL');
    restarts += pids.length;
    await new Promise((done) => setTimeout(done, 37 * kill));
  }
  await eventually(async () => {
    const { signer, standby } = await authority.status();
    return (
      signer.restarts + (standby?.restarts ?? 0) >= restarts && signer.pid !== null && standby?.pid !== null
    );
  });
  stop.abort();
  await running;
  expect(failures).toEqual([]);
  expect(issued).toBeGreaterThan(50);
  expect(await problems(authority)).toEqual([]);
  await authority.server.end();
  expect(await problems(authority)).toEqual([]);
}, 90_000);
