import { createHash, hash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { VouchError } from '../../src/core/errors.ts';
import { type Request, uploadPartBytes, uploadsAtOnce } from '../../src/signer/protocol.ts';
import { Uploader } from '../../src/signer/uploader.ts';
import { Uploads } from '../../src/signer/uploads.ts';
import { crlTbs, nowMs, send, testAuthority } from './fixture.ts';

const test = testAuthority();
const tbsOf = (number: number) => crlTbs(test, { crlNumber: BigInt(nowMs + number) });
const sha256 = (bytes: Buffer) => hash('sha256', bytes, 'buffer');

describe('uploads', () => {
  it('are known by the hash that was computed here, and give what each algorithm signs', () => {
    const uploads = new Uploads(['ecdsa-sha384', 'rsa-pss-sha256', 'ed25519']);
    const tbs = tbsOf(1);
    expect(send(uploads, tbs)).toBe(true);
    const found = uploads.get(sha256(tbs));
    expect(found?.head).toMatchObject({ crlNumber: BigInt(nowMs + 1), count: 0 });
    expect(found?.signable('ecdsa-sha384')).toEqual({ digest: hash('sha384', tbs, 'buffer') });
    expect(found?.signable('rsa-pss-sha256')).toEqual({ digest: sha256(tbs) });
    expect(found?.signable('ed25519')).toEqual(tbs);
    expect(uploads.get(sha256(tbsOf(2)))).toBeUndefined();
  });

  it('go on side by side, each by its number', () => {
    const uploads = new Uploads(['ecdsa-sha256']);
    const all = Array.from({ length: uploadsAtOnce }, (_, index) => tbsOf(index));
    const longest = Math.max(...all.map(({ length }) => length));
    for (let at = 0; at <= longest; at += 10)
      for (const [upload, tbs] of all.entries())
        uploads.take({ upload, part: tbs.subarray(at, at + 10), last: at + 10 > longest });
    for (const tbs of all) expect(uploads.get(sha256(tbs))).toBeDefined();
  });

  it('that are never ended give way, and do no harm to those that are', () => {
    const uploads = new Uploads(['ed25519']);
    const mine = tbsOf(7);
    uploads.take({ upload: 0, part: mine.subarray(0, 40), last: false });
    for (let other = 1; other < 1000; other += 1) {
      uploads.take({ upload: other, part: mine.subarray(0, 40), last: false });
      // One that grows is not the one to be forgotten.
      if (other < 40) uploads.take({ upload: 0, part: mine.subarray(39 + other, 40 + other), last: false });
      if (other === 40) uploads.take({ upload: 0, part: mine.subarray(79), last: true });
    }
    expect(uploads.get(sha256(mine))).toBeDefined();
    const forgotten = () => uploads.take({ upload: 990, part: mine.subarray(40), last: true });
    expect(forgotten).toThrow(VouchError);
    expect(send(uploads, tbsOf(8))).toBe(true);
  });

  it('that are none leave nothing behind: the same number begins another', () => {
    const uploads = new Uploads(['ecdsa-sha256']);
    const tbs = tbsOf(3);
    uploads.take({ upload: 5, part: tbs.subarray(0, 50), last: false });
    const bad = { upload: 5, part: Buffer.alloc(60_000, 0x31), last: false };
    expect(() => uploads.take(bad)).toThrow(expect.objectContaining({ code: 'request-malformed' }));
    uploads.take({ upload: 5, part: tbs, last: true });
    expect(uploads.get(sha256(tbs))).toBeDefined();
  });

  it('are remembered as long as there is room: who was asked for last goes last', () => {
    const uploads = new Uploads(['ecdsa-sha256']);
    const take = (tbs: Buffer) => uploads.take({ upload: 1, part: tbs, last: true });
    for (let number = 0; number < 2048; number += 1) take(tbsOf(number));
    expect(uploads.get(sha256(tbsOf(0)))).toBeDefined();
    take(tbsOf(5000));
    expect([0, 1, 2, 5000].map((number) => uploads.get(sha256(tbsOf(number))) !== undefined)).toEqual([
      ...[true, false, true, true],
    ]);
  });
});

describe('an uploader', () => {
  /** A signer that answers when told to. */
  function harness() {
    const asked: { request: Request & { op: 'upload' }; answer: PromiseWithResolvers<Buffer> }[] = [];
    const uploader = new Uploader((request) => {
      if (request.op !== 'upload') throw new Error(request.op);
      const answer = Promise.withResolvers<Buffer>();
      asked.push({ request, answer });
      return answer.promise;
    });
    let answered = 0;
    const answerAll = async () => {
      for (; answered < asked.length; answered += 1) {
        asked[answered]?.answer.resolve(Buffer.alloc(0));
        await new Promise(setImmediate);
      }
    };
    return { asked, uploader, answerAll };
  }

  it('joins and cuts what it is given to parts, and sends two before it waits', async () => {
    const { asked, uploader, answerAll } = harness();
    const chunks = [1, 70_000, 0, 300_000, 3].map((length, at) => Buffer.alloc(length, at + 1));
    let parts = 0;
    const done = uploader.upload(chunks, () => void (parts += 1));
    await new Promise(setImmediate);
    expect(asked).toHaveLength(2);
    await answerAll();
    await done;
    const sent = asked.map(({ request }) => request);
    expect(sent.map(({ part }) => part.length)).toEqual([
      ...Array(Math.floor(370_004 / uploadPartBytes)).fill(uploadPartBytes),
      370_004 % uploadPartBytes,
    ]);
    expect(sent.map(({ last }) => last)).toEqual(sent.map((_, at) => at === sent.length - 1));
    expect(new Set(sent.map(({ upload }) => upload)).size).toBe(1);
    const digest = createHash('sha256');
    for (const { part } of sent) digest.update(part);
    expect(digest.digest()).toEqual(sha256(Buffer.concat(chunks)));
    expect(parts).toBeGreaterThan(3);
  });

  it('has no more under way than the signer remembers, and takes the next when one was refused', async () => {
    const { asked, uploader, answerAll } = harness();
    const all = Array.from({ length: uploadsAtOnce + 3 }, () => uploader.upload([], () => undefined));
    await new Promise(setImmediate);
    expect(asked).toHaveLength(uploadsAtOnce);
    asked[0]?.answer.reject(new VouchError('request-malformed', 'no'));
    await expect(all[0]).rejects.toThrow('no');
    await new Promise(setImmediate);
    expect(asked).toHaveLength(uploadsAtOnce + 1);
    await answerAll();
    await Promise.all(all.slice(1));
    expect(new Set(asked.map(({ request }) => request.upload)).size).toBe(uploadsAtOnce + 3);
  });

  it('ends one that nobody waits for any more', async () => {
    const { asked, uploader, answerAll } = harness();
    const stopped = uploader.upload([Buffer.alloc(10 * uploadPartBytes)], () => {
      throw new Error('late');
    });
    await new Promise(setImmediate);
    void answerAll();
    await expect(stopped).rejects.toThrow('late');
    expect(asked).toHaveLength(2);
  });
});
