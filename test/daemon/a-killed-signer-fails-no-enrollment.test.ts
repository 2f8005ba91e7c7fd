import { signalTo } from '../support/signal.ts';
import { X509Certificate } from 'node:crypto';
import { expect, it } from 'vitest';
import { enroll, newKey } from '../edge/client.ts';
import { type Authority, bootAuthority } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';
import { limitMs } from '../support/limits.ts';

const clients = 8;
const kills = 8;

/** Enrolls one after the other until told to stop; serials and whatever was not answered by a certificate. */
async function load(authority: Authority, joinFile: string, stop: AbortSignal) {
  const url = authority.server.ready.enrollmentUrl;
  const serials: string[] = [];
  const failures: string[] = [];
  while (!stop.aborted) {
    const answer = await enroll(url, joinFile, newKey()).catch((error: unknown) => error as Error);
    if (answer instanceof Error) failures.push(answer.message);
    else if (answer.status !== 200) failures.push(`${answer.status} ${answer.text}`);
    else {
      const { chain } = JSON.parse(answer.text) as { chain: string[] };
      serials.push(new X509Certificate(Buffer.from(chain[0] ?? '', 'base64')).serialNumber.toLowerCase());
    }
  }
  return { serials, failures };
}

it(`${clients} clients enroll while the signer is killed ${kills} times: each gets its certificate, and the log is whole`, async () => {
  const authority = await bootAuthority();
  const { path } = await authority.join('orders', '--uses', '10000');
  const stop = new AbortController();
  const running = Array.from({ length: clients }, () => load(authority, path, stop.signal));
  const status = async () =>
    (await authority.vouch('status')).json<{
      signer: { state: string; pid: number | null; restarts: number };
    }>().signer;
  let pid: number | null = null;
  for (let kill = 0; kill < kills; kill += 1) {
    pid = await eventually(async () => {
      const signer = await status();
      return signer.state === 'usable' && signer.pid !== null && signer.pid !== pid ? signer.pid : undefined;
    });
    process.kill(pid, 'SIGKILL');
    await new Promise((done) => setTimeout(done, 50 * kill));
  }
  await eventually(async () => (await status()).restarts === kills);
  stop.abort();
  const results = await Promise.all(running);
  const serials = results.flatMap((result) => result.serials);
  expect(results.flatMap((result) => result.failures)).toEqual([]);
  expect(serials.length).toBeGreaterThan(clients * kills);
  expect(new Set(serials).size).toBe(serials.length);
  const verified = (await authority.vouch('log', 'verify', '--state', authority.state)).json<{
    certificates: number;
    problems: string[];
  }>();
  expect(verified.problems).toEqual([]);
  // One of them is the server's own.
  expect(verified.certificates).toBeGreaterThanOrEqual(serials.length + 1);
}, 60_000);

it('a signer that stands still is replaced, and who waited gets a certificate', async () => {
  const authority = await bootAuthority();
  const { path } = await authority.join('orders', '--uses', '10');
  const { enrollmentUrl, signerPid } = authority.server.ready;
  expect((await enroll(enrollmentUrl, path)).status).toBe(200);
  signalTo(signerPid, 'SIGSTOP');
  const answer = await enroll(enrollmentUrl, path);
  expect(answer.status).toBe(200);
  expect(answer.ms).toBeLessThan(limitMs(4000));
  const { signer } = (await authority.vouch('status')).json<{ signer: { pid: number; restarts: number } }>();
  expect(signer.restarts).toBe(1);
  expect(signer.pid).not.toBe(signerPid);
});
