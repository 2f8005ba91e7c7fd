import { describe, expect, test } from 'vitest';
import { explain } from '../../src/agent/recognised.ts';
import { parseSpiffeId } from '../../src/core/spiffe-id.ts';
import { svidOf, trustOf } from '../fakes/held-workloads.ts';
import { FakePeer } from '../fakes/workload-peer.ts';

test('a workload whose program is named like lines of the log writes none', () => {
  const seen = new Set(['unix:uid:7', 'unix:path:/tmp/a\nvouch: all is well\u001b[2J\u2028\u202e']);
  const served = { svids: [svidOf('spiffe://prod.example/web')], trust: trustOf('prod.example') };
  const line = explain(new FakePeer(), seen, served, []);
  expect(line).toContain('unix:path:/tmp/a?vouch: all is well?[2J??');
  expect(line).not.toMatch(/[\p{C}\u2028]/u);
});

describe('a refusal says', () => {
  const trust = trustOf('prod.example');
  const uid7 = new Set(['unix:uid:7']);
  const withheld = (name: string, selectors: readonly string[], why: string) => ({
    ...{ entryId: `e_${name}`, spiffeId: parseSpiffeId(`spiffe://prod.example/${name}`), selectors, why },
  });

  test('which entry names the workload and why that one has no certificate, before what others miss', () => {
    const served = { svids: [svidOf('spiffe://prod.example/web')], trust };
    const line = explain(new FakePeer(), uid7, served, [
      withheld('far', ['unix:uid:7', 'unix:gid:7'], 'the entry is suspended'),
      withheld('mine', ['unix:uid:7'], 'the entry is suspended'),
    ]);
    expect(line).toMatch(
      /; e_mine makes it spiffe:\/\/prod\.example\/mine, without a certificate: the entry is suspended; /,
    );
    expect(line).toContain('; e_far asks for unix:gid:7');
    expect(line).toContain('; e_web asks for unix:uid:1000');
  });

  test('of what is served to it nothing that it would miss', () => {
    const served = { svids: [svidOf('spiffe://prod.example/web', { selectors: ['unix:uid:7'] })], trust };
    expect(explain(new FakePeer(), uid7, served, [])).not.toContain('asks for');
  });

  test('that there is no entry at all', () => {
    expect(explain(new FakePeer(), uid7, { svids: [], trust }, [])).toContain('no entry names this agent');
  });
});
