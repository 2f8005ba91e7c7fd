import { describe, expect, test } from 'vitest';
import { FakeAuthority, newKey } from '../agent/support/fake-authority.ts';
import { type Host, startHost } from './support/daemon.ts';

/** What is bent, and what the agent says then. The first entry is `web`, the second `db`, whose certificate is good. */
const attacks: [string, RegExp, (host: Host) => void][] = [
  [
    'a certificate for a name that the entry does not have',
    /not for what entry/,
    ({ entries }) => {
      entries.bendNames = (names) => {
        if (names.uris[0]?.endsWith('/web')) names.uris = ['spiffe://example.org/admin'];
      };
    },
  ],
  [
    'a further DNS name',
    /not for what entry/,
    ({ entries }) => {
      entries.bendNames = ({ uris, dnsNames }) =>
        void (uris[0]?.endsWith('/web') && dnsNames.push('evil.example'));
    },
  ],
  [
    'a certificate for another key',
    /another key than ours/,
    ({ entries, authority }) => {
      entries.bend = (answer) => {
        const [first] = answer.results;
        if (!first || !('certificate' in first)) return answer;
        const other = authority.issue(newKey().spki, { uris: ['spiffe://example.org/web'] });
        return bent(answer, { ...first, certificate: other.toString('base64') });
      };
    },
  ],
  [
    'a certificate that is not in the log',
    /not in the log/,
    ({ entries }) => {
      entries.bend = (answer) => {
        const [first] = answer.results;
        if (!first || !('proof' in first)) return answer;
        return bent(answer, { ...first, proof: { ...first.proof, context: '00'.repeat(32) } });
      };
    },
  ],
  [
    'a certificate of another authority',
    /./,
    ({ entries }) => {
      const stranger = new FakeAuthority();
      entries.bend = (answer) => {
        const [first] = answer.results;
        if (!first || !('certificate' in first)) return answer;
        const der = stranger.issue(newKey().spki, { uris: ['spiffe://example.org/web'] });
        return bent(answer, { ...first, certificate: der.toString('base64') });
      };
    },
  ],
  [
    'an issuer key id that the answer has no authority for',
    /./,
    ({ entries }) => {
      entries.bend = (answer) => {
        const [first] = answer.results;
        if (!first || !('certificate' in first)) return answer;
        return bent(answer, { ...first, issuerKeyId: '00'.repeat(20) });
      };
    },
  ],
];

/** As an answer with another first result. */
function bent<A extends { results: unknown[] }>(answer: A, first: A['results'][number]): A {
  return { ...answer, results: [first, ...answer.results.slice(1)] };
}

describe('one item of an answer', () => {
  test.each(attacks)('%s is not served, its neighbour is', async (_what, says, bend) => {
    const host = await startHost();
    host.entries.create('web');
    host.entries.create('db');
    bend(host);
    const agent = host.start();
    await agent.serves('db');
    expect(
      agent.notices.find((line) => line.includes('no certificate for spiffe://example.org/web')),
    ).toMatch(says);
    expect(agent.names).toEqual(['db']);
  });
});

describe('a whole answer', () => {
  const whole: [string, RegExp, (host: Host) => void][] = [
    [
      'whose results stand in another order',
      /not to what was asked/,
      ({ entries }) =>
        void (entries.bend = (answer) => ({ ...answer, results: answer.results.toReversed() })),
    ],
    [
      'with fewer results than were asked for',
      /not to what was asked/,
      ({ entries }) => void (entries.bend = (answer) => ({ ...answer, results: answer.results.slice(1) })),
    ],
    [
      'with a bundle older than seen',
      /older than one seen/,
      ({ entries }) =>
        void (entries.bend = (answer) => ({ ...answer, bundle: { ...answer.bundle, spiffe_sequence: 0 } })),
    ],
    [
      'with a bundle of another root',
      /does not hold the root/,
      ({ entries }) => {
        const stranger = new FakeAuthority();
        entries.bend = (answer) => ({ ...answer, bundle: stranger.bundle() });
      },
    ],
  ];
  test.each(whole)('%s brings nothing', async (_what, says, bend) => {
    const host = await startHost();
    host.entries.create('web');
    host.entries.create('db');
    bend(host);
    const agent = host.start();
    await agent.until(() => agent.notices.some((line) => says.test(line)));
    expect(agent.now).toBeUndefined();
    host.entries.bend = undefined;
    // Who tells of entries is there: nothing waits any longer.
    host.entries.create('new');
    await agent.serves('web', 'db', 'new');
  });

  test('without the proof that the log only grew brings nothing', async () => {
    const host = await startHost();
    host.entries.create('web');
    host.entries.bend = ({ consistency: _none, ...answer }) => answer;
    const agent = host.start();
    await agent.until(() =>
      agent.notices.some((line) => line.includes('proof that the log only grew is missing')),
    );
    expect(agent.now).toBeUndefined();
  });

  test('an entry under a reserved name, or of another trust domain, is passed over', async () => {
    const host = await startHost();
    host.entries.create('x', { spiffeId: 'spiffe://example.org/vouch/server' });
    host.entries.create('y', { spiffeId: 'spiffe://other.example/y' });
    host.entries.create('web');
    const agent = host.start();
    await agent.serves('web');
    expect(host.entries.calls.flat().map(({ entryId }) => entryId)).toEqual(['e_0000000000000003']);
  });
});
