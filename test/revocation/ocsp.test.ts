// What the responder says, from the store's word of the moment; with a signer in memory and a clock that stands still.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { OcspResponders } from '../../src/authority/ocsp-responders.ts';
import type { Serial } from '../../src/core/serial.ts';
import { OcspAnswers, type OcspReply, type SignedOcsp, type Standing } from '../../src/revocation/ocsp.ts';
import { explicit, integer, nullValue, octetString, oid, sequence } from '../../src/x509/der.ts';
import { issuerHashes, type OcspAnswer } from '../../src/x509/ocsp.ts';
import { oids } from '../../src/x509/oids.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { type PairedAuthority, pairedAuthority, trustDomain } from '../support/software-authority.ts';

const validity = 3600;
const serials = Array.from({ length: 20 }, (_, at) => `2a${at.toString(16).padStart(32, '0')}` as Serial);
const [serial] = serials as [Serial];

let authority: PairedAuthority;
let standings: Map<Serial, Standing>;
let answers: OcspAnswers;
let responders: OcspResponders;
let audited: OcspAnswer[];
let failures: unknown[];
let reads: number;

beforeEach(async () => {
  authority = await pairedAuthority();
  [standings, audited, failures, reads] = [new Map(), [], [], 0];
  for (const one of serials)
    standings.set(one, { kind: 'good', notAfterMs: authority.clock.now() + 86_400_000 });
  await open('ignore');
});
afterEach(() => authority.close());

async function open(nonces: 'ignore' | 'require'): Promise<void> {
  const { clock, clockGuard, issuer, standby, issuance, store, signer } = authority;
  const issuers = [issuer, standby.issuer];
  const timeMs = (): number => clockGuard.steadyTimeMs();
  const signers = {
    ocspKey: (keyId: string) => signerOf(keyId).ocspKey(),
    signOcsp: (keyId: string, answer: OcspAnswer) => signerOf(keyId).signOcsp(keyId, answer),
  };
  const signerOf = (keyId: string) => (keyId === issuer.keyId ? signer : standby.signer);
  responders = new OcspResponders({ issuance, store, signer: signers, trustDomain, issuers, timeMs });
  await responders.renewWhenDue();
  answers = new OcspAnswers({
    ...{ issuers, clock, timeMs, signer: signers },
    settings: { validity, nonces, noncesPerSecond: 5 },
    standing: (_issuer, asked) => {
      reads += 1;
      return standings.get(asked) ?? { kind: 'unknown' };
    },
    responder: (keyId) => responders.current(keyId),
    signed: (_issuer, answer) => audited.push(answer),
    failed: (error) => failures.push(error),
  });
}

function ask(of: Serial = serial, nonce?: Buffer, issuer = authority.issuer): Promise<OcspReply> {
  const { spki } = parseCertificate(issuer.certificateDer);
  const { issuerNameHash, issuerKeyHash } = issuerHashes({ nameDer: issuer.issuerName, spki }, 'sha1');
  const certId = sequence(
    sequence(oid(oids.sha1), nullValue),
    ...[octetString(issuerNameHash), octetString(issuerKeyHash), integer(Buffer.from(of, 'hex'))],
  );
  const extension = nonce && sequence(oid(oids.ocspNonce), octetString(octetString(nonce)));
  return answers.answer(
    sequence(sequence(sequence(sequence(certId)), ...(extension ? [explicit(2, sequence(extension))] : []))),
  );
}

async function signed(...of: Parameters<typeof ask>): Promise<SignedOcsp> {
  const reply = await ask(...of);
  if ('refusal' in reply) throw new Error(reply.refusal);
  return reply.signed;
}

const refusal = async (...of: Parameters<typeof ask>): Promise<string> => {
  const reply = await ask(...of);
  return 'refusal' in reply ? reply.refusal : 'signed';
};

const revoke = (reason: 'certificateHold' | 'keyCompromise'): void =>
  void standings.set(serial, { kind: 'revoked', revokedAtMs: authority.clock.now(), reason });

describe('an answer', () => {
  it('is signed once, kept, and asks the store once each time', async () => {
    const first = await signed();
    for (let at = 0; at < 5; at += 1) expect(await signed()).toBe(first);
    expect({ signed: audited.length, reads }).toEqual({ signed: 1, reads: 6 });
    expect(first.nextUpdateSeconds - first.thisUpdateSeconds).toBe(validity);
  });

  it('is signed once for many who ask at once', async () => {
    const all = await Promise.all(Array.from({ length: 50 }, () => signed()));
    expect(new Set(all).size).toBe(1);
    expect(audited.length).toBe(1);
  });

  it('ends with a hold, with its release, and with a worse reason', async () => {
    expect((await signed()).status.kind).toBe('good');
    revoke('certificateHold');
    expect((await signed()).status).toMatchObject({ kind: 'revoked', reason: 'certificateHold' });
    standings.set(serial, { kind: 'good', notAfterMs: authority.clock.now() + 1_000_000 });
    expect((await signed()).status.kind).toBe('good');
    revoke('certificateHold');
    revoke('keyCompromise');
    expect((await signed()).status).toMatchObject({ kind: 'revoked', reason: 'keyCompromise' });
  });

  it("that was on its way to be signed as good is nobody else's once it is revoked", async () => {
    const before = ask();
    revoke('keyCompromise');
    expect((await signed()).status.kind).toBe('revoked');
    await before;
    expect((await signed()).status.kind).toBe('revoked');
  });

  it("is the standby issuer's by the standby's key, which its token has beside it", async () => {
    await signed(serial, undefined, authority.standby.issuer);
    expect(authority.standby.signer.answered.length).toBe(1);
    expect(authority.signer.answered.length).toBe(0);
  });

  it("is not given of what is unknown, has expired, or is another issuer's", async () => {
    expect(await refusal('2aff' as Serial)).toBe('unauthorized');
    standings.set(serial, { kind: 'good', notAfterMs: authority.clock.now() - 1 });
    expect(await refusal()).toBe('unauthorized');
    const { rootDer, issuer } = authority;
    expect(await refusal(serial, undefined, { ...issuer, certificateDer: rootDer })).toBe('unauthorized');
    expect(audited.length).toBe(0);
  });
});

describe('a kept answer', () => {
  it('is made anew from half of its life on, beside the old one', async () => {
    const first = await signed();
    authority.clock.pass((validity / 2) * 1000 + 1000);
    expect(await signed()).toBe(first);
    await expect.poll(async () => (await signed()) !== first).toBe(true);
    expect(audited.length).toBe(2);
  });

  it('goes on while the signer is away, to its nextUpdate; then there is none', async () => {
    const first = await signed();
    authority.signer.state = 'degraded';
    authority.clock.pass(validity * 1000 - 1000);
    expect(await signed()).toBe(first);
    authority.clock.pass(1000);
    expect(await refusal()).toBe('tryLater');
    expect(await refusal(serials[1])).toBe('tryLater');
  });

  it('of good is not given of what is revoked, also where nobody can sign that', async () => {
    await signed();
    authority.signer.state = 'degraded';
    revoke('keyCompromise');
    expect(await refusal()).toBe('tryLater');
  });

  it('ends with its responder', async () => {
    authority.clock.pass(24 * 3600_000 - 1800_000);
    const last = await signed();
    const notAfterMs = responders.current(authority.issuer.keyId)?.notAfterMs ?? 0;
    expect(last.nextUpdateSeconds).toBe(notAfterMs / 1000);
    await responders.renewWhenDue();
    expect((await signed(serials[1])).nextUpdateSeconds - last.nextUpdateSeconds).toBeGreaterThan(1000);
  });
});

describe('a nonce', () => {
  it('is ignored: the kept answer is given without it', async () => {
    const first = await signed();
    expect(await signed(serial, Buffer.alloc(16, 1))).toBe(first);
  });

  it('where nonces are required, is signed each time, and so often and no more', async () => {
    await open('require');
    const nonce = Buffer.alloc(32, 7);
    for (let at = 0; at < 5; at += 1) expect((await signed(serial, nonce)).nonce).toEqual(nonce);
    expect(await refusal(serial, nonce)).toBe('tryLater');
    expect((await signed()).nonce).toBeUndefined();
    authority.clock.pass(200);
    expect((await signed(serial, nonce)).nonce).toEqual(nonce);
    expect(await refusal(serial, nonce)).toBe('tryLater');
  });
});

describe('a responder', () => {
  it('is certified anew after half a day, and not before', async () => {
    const { issuer, clock } = authority;
    const now = () => responders.current(issuer.keyId)?.certificateDer;
    const first = now();
    await responders.renewWhenDue();
    expect(now()).toBe(first);
    clock.pass(12 * 3600_000 + 60_000);
    await responders.renewWhenDue();
    expect(now()).not.toBe(first);
    expect((await signed()).status.kind).toBe('good');
  });

  it('whose signature is wrong answers nothing', async () => {
    const other = authority.standby.signer;
    authority.signer.signOcsp = (keyId, answer) => other.signOcsp(keyId, answer);
    expect(await refusal()).toBe('tryLater');
    expect(failures).toMatchObject([{ code: 'integrity-signature' }]);
    expect(audited.length).toBe(0);
  });
});
