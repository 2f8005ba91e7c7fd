import { cpSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { Keyring } from '../../src/agent/daemon/cache-keys.ts';
import { requireState } from '../../src/agent/renew.ts';
import { decodePem } from '../../src/x509/pem.ts';
import { FakeAuthority } from '../agent/support/fake-authority.ts';
import { crlEvent } from '../agent/support/fake-watch.ts';
import { Threadless } from '../simulation/agent/threadless.ts';
import { type Daemon, type Host, startHost } from './support/daemon.ts';

/** What a machine has after a death. */
interface Left {
  dir: string;
  keyring: Keyring | undefined;
  /** Sequence of the bundle that was served then. */
  sequence: number;
}

/** Calls that change what lies in the folder. */
const writes = new Set(['open', 'writeFile', 'rename', 'rm', 'mkdir', 'symlink']);

function keyringOf(kept: Map<string, Buffer>): Keyring {
  const name = 'the only one';
  return { read: () => kept.get(name), write: (_name, value) => void kept.set(name, value) };
}

const hex = (der: Buffer): string => der.toString('hex');

/** Those of the agent's own bundle.pem. */
function rootsIn(dir: string): string[] {
  return decodePem(readFileSync(join(dir, 'current/bundle.pem'), 'utf8'), 'CERTIFICATE').map(hex);
}

/** What would be left at each write of `life`, which is told when the agent has all it needs. */
async function deaths(host: Host, kept: Map<string, Buffer> | undefined): Promise<Left[]> {
  const threadless = new Threadless();
  onTestFinished(() => threadless.restore());
  threadless.install();
  const agent = host.start({ ...(kept && { keyring: keyringOf(kept) }) });
  await agent.serves('web', 'db');
  await agent.until(() => agent.daemon.isLive && existsSync(join(host.dir, 'cache.sealed')));
  const left: Left[] = [];
  threadless.done = (name) => {
    if (!writes.has(name)) return;
    const dir = join(host.folder, `death-${left.length}`);
    cpSync(host.dir, dir, { recursive: true, verbatimSymlinks: true });
    const keyring = kept && keyringOf(new Map(kept));
    left.push({ dir, keyring, sequence: agent.now?.trust.sequence ?? 0 });
  };
  await live(host, agent);
  threadless.done = () => undefined;
  await agent.end();
  threadless.restore();
  return left;
}

/** Everything that moves on what was seen: a bundle, an answer, a renewal, a CRL; the first three with a newer bundle. */
async function live({ authority, entries, dir }: Host, agent: Daemon): Promise<void> {
  const hasBundle = (sequence: number) => agent.until(() => agent.now?.trust.sequence === sequence);
  authority.bundleSequence = 2;
  authority.otherRoots.push(new FakeAuthority().root.der);
  entries.streams.tell('bundle', { sequence: 2 });
  await hasBundle(2);
  Object.assign(authority, { bundleSequence: 3, statementSequence: 3 });
  authority.otherRoots.push(new FakeAuthority().root.der);
  entries.change(entries.entries[0]!, { hint: 'another' });
  await hasBundle(3);
  authority.bundleSequence = 4;
  authority.otherRoots.pop();
  entries.streams.tell('renew', { reason: 'a test' });
  await hasBundle(4);
  authority.crlNumber += 1n;
  const { crlNumber, issuer, publicationUrl } = authority;
  const event = await crlEvent(authority.crl(issuer), `${publicationUrl}/crl/${issuer.keyId}.crl`);
  entries.streams.tell('crl', event);
  await agent.until(() => requireState(dir).seen.crlNumbers.get(issuer.keyId) === crlNumber);
}

test.each(['keyring', 'file'])(
  'whatever was written last, a restart without server goes on with good certificates and the newest bundle (key in the %s)',
  async (where) => {
    const host = await startHost();
    for (const name of ['web', 'db']) host.entries.create(name);
    const left = await deaths(host, where === 'keyring' ? new Map<string, Buffer>() : undefined);
    expect(left.length).toBeGreaterThan(50);
    await host.server.goAway();
    for (const { dir, keyring, sequence } of left) {
      const agent = host.start({ dir, ...(keyring && { keyring }) });
      const { svids, trust } = await agent.serves('web', 'db');
      for (const { notAfterMs } of svids) expect(notAfterMs).toBeGreaterThan(Date.now());
      expect(trust.sequence).toBeGreaterThanOrEqual(sequence);
      expect(rootsIn(dir)).toEqual(trust.roots.map(hex));
      await agent.end();
    }
  },
  120_000,
);
