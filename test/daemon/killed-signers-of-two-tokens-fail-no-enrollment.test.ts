import { expect, it } from 'vitest';
import { enroll, newKey } from '../edge/client.ts';
import { type Authority, bootAuthority } from '../support/daemon.ts';
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
  const killed = new Set<number>();
  const lives = (pid: number | null | undefined): pid is number =>
    typeof pid === 'number' && !killed.has(pid);
  for (let kill = 0; kill < 10; kill += 1) {
    const { signer, standby } = await eventually(async () => {
      const status = await authority.status();
      return lives(status.signer.pid) && lives(status.standby?.pid) && status;
    });
    const pids = [signer.pid, standby?.pid].filter((_, index) => ((kill % 3) + 1) & (index + 1));
    for (const pid of pids.filter(lives)) {
      killed.add(pid);
      process.kill(pid, 'SIGKILL');
    }
    await new Promise((done) => setTimeout(done, 200 + 37 * kill));
  }
  await eventually(async () => {
    const { signer, standby } = await authority.status();
    return (
      signer.restarts + (standby?.restarts ?? 0) >= killed.size && lives(signer.pid) && lives(standby?.pid)
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
