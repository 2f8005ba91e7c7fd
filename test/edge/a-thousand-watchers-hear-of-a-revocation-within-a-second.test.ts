import type { KeyObject } from 'node:crypto';
import http from 'node:http';
import { expect, it, onTestFinished } from 'vitest';
import { encodePem } from '../../src/x509/pem.ts';
import { percentile, type Shown, Watchers } from '../bench/watchers.ts';
import { type Authority, bootAuthority } from '../support/daemon.ts';
import { type Answer, enroll, newKey } from './client.ts';

/** Certificates of one join token, and as many streams as each may have. */
const certificates = 250;
const streamsOfEach = 4;
const limitMs = process.env.CI ? 3000 : 1000;

function shownOf(answer: Answer, key: KeyObject): Shown {
  const { chain } = JSON.parse(answer.text) as { chain: string[] };
  const cert = chain.slice(0, -1).map((der) => encodePem('CERTIFICATE', Buffer.from(der, 'base64')));
  return { cert: cert.join(''), key: key.export({ type: 'pkcs8', format: 'pem' }).toString() };
}

async function enrollMany(authority: Authority, count: number): Promise<Shown[]> {
  const { path } = await authority.join('fleet', '--uses', String(count));
  const shown: Shown[] = [];
  const some = async (): Promise<void> => {
    while (shown.length < count) {
      const key = newKey();
      const answer = await enroll(authority.server.ready.enrollmentUrl, path, key);
      if (answer.status === 200) shown.push(shownOf(answer, key));
      else if (shown.length + 16 < count) throw new Error(answer.text);
      else return;
    }
  };
  await Promise.all(Array.from({ length: 16 }, some));
  return shown.slice(0, count);
}

/** `vouch revoke`, without the start of a process. */
function revoke(socketPath: string, serial: string): Promise<{ crlNumber: number }> {
  const body = JSON.stringify({ target: { serial }, reason: 'superseded' });
  const headers = { 'content-type': 'application/json' };
  return new Promise((resolve, reject) => {
    const request = http.request(
      { socketPath, method: 'POST', path: '/v1/revocations', headers },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('end', () => resolve(JSON.parse(text) as { crlNumber: number }));
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

it('each of them, a revocation after the other', async () => {
  const authority = await bootAuthority();
  const shown = await enrollMany(authority, certificates);
  const all = Array.from({ length: streamsOfEach }, () => shown).flat();
  const watchers = await Watchers.open(authority.server.ready.enrollmentUrl, all);
  onTestFinished(() => watchers.close());
  expect(watchers.size).toBe(1000);

  const round = async (): Promise<number> => {
    const took: number[] = [];
    for (const name of ['a', 'b', 'c']) {
      const victim = await authority.enroll(name);
      const startedMs = performance.now();
      const { crlNumber } = await revoke(authority.server.ready.adminSocket, victim.serial);
      const times = await watchers.heard('full', crlNumber);
      took.push(...times.map((time) => time - startedMs));
    }
    return percentile(took, 0.99);
  };
  const rounds = [await round(), await round(), await round()];
  process.stdout.write(
    `push p99 to ${watchers.size} streams: ${rounds.map((ms) => ms.toFixed(0)).join(', ')} ms\n`,
  );
  expect(Math.min(...rounds)).toBeLessThan(limitMs);
  expect(watchers.lost).toBe(0);
}, 120_000);
