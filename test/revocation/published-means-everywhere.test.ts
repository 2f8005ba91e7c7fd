// `published: true` is said once a peer who looks where its certificate points (the CDP's shard) finds the revocation.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type CrlTiming, CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import { allStanding } from '../../src/store/pages.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { becomes } from '../invariants/support/refusal.ts';
import {
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';
import { readPublished } from '../support/crl-bytes.ts';

type Certificate = Awaited<ReturnType<SoftwareAuthority['issuance']['issue']>>;

let authority: SoftwareAuthority;
let publisher: CrlPublisher;
let revocation: Revocation;
let alarms: string[];

async function open(timing: Partial<CrlTiming> = {}): Promise<void> {
  publisher = new CrlPublisher({
    ...authority,
    publicationUrl,
    shardCount: 16,
    timing: { ...defaultCrlTiming, batchMs: 0, ...timing },
    publish: () => undefined,
    alarm: (scope, problems) => alarms.push(`${scope}: ${problems.join()}`),
  });
  await publisher.start();
  revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
  expect(await becomes(() => publisher.current().length === 18)).toBe(true);
}

beforeEach(async () => {
  authority = await softwareAuthority();
  alarms = [];
});
afterEach(async () => {
  await publisher.close();
  await authority.close();
});

async function issue(name: string): Promise<Certificate> {
  const { entry, tokenId } = await registered(authority, name);
  return authority.issuance.issue(requestFor(entry, tokenId));
}

function revoke({ record }: Certificate) {
  return revocation.revoke({ by: 'serial', serial: record.serial, only: true }, 'superseded', 'uid:0');
}

function isOn({ der, record }: Certificate, scope: 'full' | 'shard'): boolean {
  const [shardUrl] = parseCertificate(der).crlUrls;
  const served = publisher
    .current()
    .find((one) => (scope === 'full' ? one.scope === 'full' : one.url === shardUrl));
  return served !== undefined && readPublished(served).has(record.serial);
}

/** Two whose shards differ: each is the last of sixteen at most to be looked for. */
async function inTwoShards(): Promise<[Certificate, Certificate]> {
  const first = await issue('first');
  const [firstUrl] = parseCertificate(first.der).crlUrls;
  for (let at = 0; ; at += 1) {
    const other = await issue(`other${at}`);
    if (parseCertificate(other.der).crlUrls[0] !== firstUrl) return [first, other];
  }
}

test('one that comes while another waits for the signer is published with its shard', async () => {
  await open();
  const [first, second] = await inTwoShards();
  const { signerAnswers } = authority.sequencer;
  let asked = 0;
  authority.sequencer.signerAnswers = () => {
    asked += 1;
    return false;
  };
  const waiting = revoke(first);
  expect(await becomes(() => asked > 0)).toBe(true);
  const answer = revoke(second);
  expect(
    await becomes(
      () => authority.store.revocation(authority.issuer.keyId, second.record.serial) !== undefined,
    ),
  ).toBe(true);
  authority.sequencer.signerAnswers = signerAnswers;
  expect(await answer).toMatchObject({ published: true });
  expect([isOn(second, 'full'), isOn(second, 'shard')]).toEqual([true, true]);
  expect(await waiting).toMatchObject({ published: true });
});

test('and one that comes while another waits for the next second', async () => {
  await open({ backdateSeconds: 0 });
  const [first, second] = await inTwoShards();
  const { keyId } = authority.issuer;
  const waiting = revoke(first);
  expect(await becomes(() => [...allStanding(authority.store, keyId)].length === 1)).toBe(true);
  const answer = revoke(second);
  expect(await becomes(() => [...allStanding(authority.store, keyId)].length === 2)).toBe(true);
  authority.clock.pass(1000);
  expect(await answer).toMatchObject({ published: true });
  expect([isOn(second, 'full'), isOn(second, 'shard')]).toEqual([true, true]);
  expect(await waiting).toMatchObject({ published: true });
  expect(alarms).toEqual([]);
});

test('where the shard alone fails, the answer waits for it', async () => {
  await open();
  const one = await issue('one');
  const { sign } = authority.sequencer;
  authority.sequencer.sign = (submission) =>
    submission.mutation.kind === 'crl' && submission.mutation.crl.scope !== 'full'
      ? Promise.reject(new Error('the shard alone'))
      : sign.call(authority.sequencer, submission);
  let answered = false;
  const answer = revoke(one).finally(() => (answered = true));
  expect(await becomes(() => isOn(one, 'full') && alarms.length > 0)).toBe(true);
  expect([isOn(one, 'shard'), answered]).toEqual([false, false]);
  const again = revoke(one);
  authority.sequencer.sign = sign;
  expect(await again).toMatchObject({ published: true, alreadyRevoked: [one.record.serial] });
  expect(isOn(one, 'shard')).toBe(true);
  expect(await answer).toMatchObject({
    published: true,
    crlUrl: expect.stringMatching(/[0-9a-f]{40}\.crl$/),
  });
});
