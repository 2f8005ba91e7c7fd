import { expect, test } from 'vitest';
import { explain } from '../../src/agent/recognised.ts';
import { svidOf, trustOf } from '../fakes/held-workloads.ts';
import { FakePeer } from '../fakes/workload-peer.ts';

test('a workload whose program is named like lines of the log writes none', () => {
  const seen = new Set(['unix:uid:7', 'unix:path:/tmp/a\nvouch: all is well\u001b[2J\u2028\u202e']);
  const served = { svids: [svidOf('spiffe://prod.example/web')], trust: trustOf('prod.example') };
  const line = explain(new FakePeer(), seen, served);
  expect(line).toContain('unix:path:/tmp/a?vouch: all is well?[2J??');
  expect(line).not.toMatch(/[\p{C}\u2028]/u);
});
