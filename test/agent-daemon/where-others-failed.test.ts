import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  type AgentStatus,
  isRunning,
  isWell,
  readStatus,
  statusText,
} from '../../src/agent/daemon/status.ts';
import { problem } from '../agent/support/fake-server.ts';
import { writeJoinFile } from '../agent/support/harness.ts';
import { startHost } from './support/daemon.ts';

test('an identity that has ended is said, fails the health check, and is had anew without a restart (SPIRE 1562)', async () => {
  const { dir, entries, server, joinFile, folder, start } = await startHost();
  server.lifetimeMs = 3000;
  server.renewal = { earliestSeconds: 1, latestSeconds: 2 };
  entries.create('web');
  const agent = start();
  await agent.serves('web');
  await agent.until(() => readStatus(dir, Date.now()).identity !== null);
  expect(isWell(readStatus(dir, Date.now()))).toBe(true);
  const another = readFileSync(writeJoinFile(folder, server.joinLine()));
  const back = await server.goAway();
  await agent.until(() => !isWell(readStatus(dir, Date.now())));
  expect(statusText(readStatus(dir, Date.now()))).toContain('EXPIRED');
  server.lifetimeMs = 3_600_000;
  writeFileSync(joinFile, another);
  await back();
  await agent.until(() => isWell(readStatus(dir, Date.now())), 20_000);
  expect(agent.names).toEqual(['web']);
}, 40_000);

test('a valid identity and what is served stay where re-attestation is refused (SPIRE 2454)', async () => {
  const { dir, entries, server, joinFile, folder, start } = await startHost();
  server.renewal = { earliestSeconds: 1, latestSeconds: 2 };
  entries.create('web');
  const agent = start();
  await agent.serves('web');
  const held = () => readFileSync(join(dir, 'current/svid.pem'), 'utf8');
  const before = held();
  const [svid] = agent.now!.svids;
  let refused = 0;
  server.intercept = (kind) => {
    refused += 1;
    return problem(403, kind === 'renew' ? 'denied-certificate' : 'denied-evidence', 'no');
  };
  writeFileSync(joinFile, readFileSync(writeJoinFile(folder, server.joinLine())));
  await agent.until(() => refused >= 2);
  await agent.until(() => agent.notices.some((line) => line.includes('enrolling with the new join file')));
  await new Promise((done) => setTimeout(done, 300));
  expect(held()).toBe(before);
  expect(agent.now!.svids).toEqual([svid]);
});

test('who was refused is asked for again within seconds of another join file, once for each', async () => {
  const { server, joinFile, folder, start, entries } = await startHost();
  server.renewal = { earliestSeconds: 1, latestSeconds: 1 };
  entries.create('web');
  const agent = start();
  await agent.serves('web');
  const attempts: string[] = [];
  server.intercept = (kind) => {
    attempts.push(kind);
    return problem(403, kind === 'renew' ? 'denied-suspended' : 'denied-token-revoked', 'no');
  };
  const put = () => writeFileSync(joinFile, readFileSync(writeJoinFile(folder, server.joinLine())));
  await agent.until(() => attempts.length > 0);
  const enrollments = () => attempts.filter((kind) => kind === 'enroll').length;
  for (const files of [1, 2]) {
    put();
    await agent.until(() => enrollments() >= files, 5000);
  }
  expect(enrollments()).toBe(2);
  expect(attempts.length).toBeLessThanOrEqual(5);
  server.intercept = (kind) => (kind === 'renew' ? problem(403, 'denied-suspended', 'no') : undefined);
  put();
  await agent.until(() => agent.notices.some((line) => line.startsWith('renewed: serial')), 5000);
});

test('an agent that waits for its first identity says that it runs, why it has none and what it waits for', async () => {
  const { dir, entries, server, joinFile, start } = await startHost();
  entries.create('web');
  const status = () => existsSync(join(dir, 'status.json')) && readStatus(dir, Date.now());
  server.intercept = () => problem(403, 'denied-token-expired', 'the join token has expired');
  const agent = start();
  const waiting = await agent.until(() => status());
  expect(isRunning(waiting)).toBe(true);
  expect(isWell(waiting)).toBe(false);
  expect(waiting).toMatchObject({ identity: null, server: { reachable: true } });
  expect(statusText(waiting)).toMatch(
    new RegExp(
      `no identity yet\n  .*the join token has expired; .*it waits for another join file in place of ${joinFile}\n`,
    ),
  );
  await agent.end();
  const back = await server.goAway();
  const again = start();
  await again.until(
    () => status() && statusText(status() as AgentStatus).includes('it waits for the server\n'),
  );
  expect(status()).toMatchObject({ identity: null, server: { reachable: false } });
  server.intercept = undefined;
  await back();
  await again.until(
    () => (status() as AgentStatus).identityFailure === null && isWell(status() as AgentStatus),
  );
});
