import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { rootsOf } from '../../src/agent/answer.ts';
import { identityAtBoot } from '../../src/agent/boot.ts';
import { refreshBundle } from '../../src/agent/bundle-keeper.ts';
import { requireState } from '../../src/agent/renew.ts';
import { systemClock } from '../../src/core/clock.ts';
import { decodePem } from '../../src/x509/pem.ts';
import { Threadless } from '../simulation/agent/threadless.ts';
import { FakeAuthority } from './support/fake-authority.ts';
import { startAuthority, workload } from './support/harness.ts';

test('whatever of a newer bundle was written last, a start without server has bundle.pem as agent.json', async () => {
  const { authority, server } = await startAuthority();
  const { dir, folder, joinFile, enroll } = workload(server);
  await enroll();
  authority.bundleSequence = 2;
  authority.otherRoots.push(new FakeAuthority().root.der);
  const { signal } = new AbortController();
  const parts = {
    clock: systemClock,
    signal,
    notice: () => undefined,
    exclusively: <T>(work: () => T) => work(),
  };
  const deaths: string[] = [];
  const threadless = new Threadless();
  onTestFinished(() => threadless.restore());
  threadless.install();
  threadless.done = () => {
    const death = join(folder, `death-${deaths.length}`);
    cpSync(dir, death, { recursive: true, verbatimSymlinks: true });
    deaths.push(death);
  };
  await refreshBundle(dir, 2, parts);
  threadless.restore();
  await server.goAway();
  const options = { joinFile, keyType: undefined, crlPolicy: 'require', timeoutMs: 0 } as const;
  const roots = [];
  for (const death of deaths) {
    await identityAtBoot({ ...options, dir: death }, parts);
    const { bundle } = requireState(death);
    const pem = readFileSync(join(death, 'current/bundle.pem'), 'utf8');
    expect(decodePem(pem, 'CERTIFICATE')).toEqual(rootsOf(bundle!));
    roots.push(rootsOf(bundle!).length);
  }
  expect([...new Set(roots)]).toEqual([1, 2]);
});
