import { X509Certificate } from 'node:crypto';
import { expect, test } from 'vitest';
import { eventually, isRunning } from './support/bundle.ts';
import { executable, forever } from './support/executable.ts';
import { startAuthority } from './support/harness.ts';

test('a stderr that nobody reads any more ends neither the agent nor its work', async () => {
  const { server } = await startAuthority();
  server.renewal = { earliestSeconds: 1, latestSeconds: 1 };
  const one = await executable(server);
  const running = one.exec(`console.log('up'); ${forever}`);
  await running.seen('stdout', /up\n/);
  running.child.stderr?.destroy();
  const serials = new Set<string>();
  const renewed = () => serials.add(new X509Certificate(one.read('svid.pem')).serialNumber).size >= 3;
  // Each renewal is said: the second one comes from an agent that has survived saying the first.
  expect(await eventually(() => (renewed() ? true : undefined))).toBe(true);
  expect(isRunning(running.child.pid ?? 0)).toBe(true);
  running.child.kill('SIGTERM');
  expect(await running.exited).toBe(143);
});
