import { createPublicKey, hash, verify } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { asVouchError } from '../../src/core/errors.ts';
import { Frontier, hashLeaf, inclusionPath, rangeHasher } from '../../src/log/merkle.ts';
import { openCheckpoint } from '../../src/log/note.ts';
import { Floor } from '../../src/signer/floor.ts';
import { parseFloor } from '../../src/signer/marks.ts';
import {
  decodeAppendResult,
  decodeCheckpoint,
  decodeGreeting,
  type Request,
  type RequestedItem,
  protocolVersion,
} from '../../src/signer/protocol.ts';
import { SignerService } from '../../src/signer/service.ts';
import { FakeClock } from '../fakes/clock.ts';
import { temporaryFolder } from '../support/hsm.ts';
import {
  certificateItem,
  certificateTbs,
  crlItem,
  nowMs,
  recordItem,
  type TestAuthority,
  testAuthority,
} from './fixture.ts';

const openLog = () => Promise.reject(new Error('no new log here'));

/** A signer's decision part with keys in memory and marks on disk, and the log that its server would hold. */
class Harness {
  readonly test: TestAuthority;
  readonly folder = temporaryFolder('service');
  readonly clock = new FakeClock(nowMs);
  leaves: Buffer[] = [];
  checkpoint: string | undefined;
  service!: SignerService;
  floor!: Floor;

  constructor(test = testAuthority()) {
    this.test = test;
  }

  /** A new process: all that it knows is on disk and in the token. */
  async start(): Promise<this> {
    this.floor?.stop();
    const { authority, hsm } = this.test;
    this.floor = await Floor.open({
      file: join(this.folder, 'floor.json'),
      log: {
        origin: authority.logOrigin,
        logKeySha256: hash('sha256', authority.logKey.publicKeySpki, 'hex'),
      },
      guards: hsm.guards,
      clock: this.clock,
      onFailure: (error) => {
        throw error;
      },
    });
    this.service = new SignerService({ authority, hsm, floor: this.floor, openLog }, this.clock);
    await this.ask({ op: 'hello', version: protocolVersion });
    return this;
  }

  ask(request: Request): Promise<Buffer> {
    return this.service.handle(request);
  }

  async genesis(): Promise<this> {
    await this.ask({ op: 'resume', genesis: true, checkpoint: '', peaks: [] });
    if (this.leaves.length > 0) await this.ask({ op: 'leaves', leaves: this.leaves });
    this.checkpoint = decodeCheckpoint(await this.ask({ op: 'resumed' })).note;
    return this;
  }

  /** Takes the tree up from the stored checkpoint and the leaves after it. */
  async resume(note = this.checkpoint, leaves = this.leaves): Promise<this> {
    const size = note === undefined ? 0 : Number(note.split('\n')[1]);
    const peaks = frontierOf(leaves.slice(0, size)).peaks();
    await this.ask({ op: 'resume', genesis: false, checkpoint: note ?? '', peaks });
    const rest = leaves.slice(size);
    for (let at = 0; at < rest.length; at += 3)
      await this.ask({ op: 'leaves', leaves: rest.slice(at, at + 3) });
    this.checkpoint = decodeCheckpoint(await this.ask({ op: 'resumed' })).note;
    return this;
  }

  /** Sends the CRLs among them first. */
  async append(...items: (RequestedItem & { tbs?: Buffer })[]) {
    for (const { tbs } of items) if (tbs) await this.ask({ op: 'upload', upload: 1, part: tbs, last: true });
    const firstIndex = this.leaves.length;
    this.leaves.push(...items.map((item) => item.leaf));
    const result = decodeAppendResult(await this.ask({ op: 'append', firstIndex, items }));
    this.checkpoint = result.checkpoint.note;
    return result;
  }

  async usable(): Promise<this> {
    return (await this.start()).genesis();
  }

  logKey() {
    const { algorithm, publicKeySpki } = this.test.authority.logKey;
    return { name: this.test.authority.logOrigin, algorithm, publicKeySpki };
  }

  path(index: number, treeSize: number): Buffer[] {
    const node = (level: number, at: number) =>
      frontierOf(this.leaves.slice(at << level, (at + 1) << level)).root();
    return inclusionPath(index, treeSize, rangeHasher({ node }));
  }
}

function frontierOf(leaves: readonly Buffer[]): Frontier {
  const frontier = Frontier.empty();
  for (const leaf of leaves) frontier.append(hashLeaf(leaf));
  return frontier;
}

describe('appending', () => {
  it('signs certificates and CRLs and the checkpoint over the tree that the signer hashed', async () => {
    const h = await new Harness().usable();
    const certificate = certificateItem(h.test);
    const crl = crlItem(h.test);
    const { signatures, checkpoint } = await h.append(recordItem(h.test), certificate, crl);
    expect(signatures[0]).toBeUndefined();
    const issuer = h.test.issuerKey;
    expect(verify('sha256', certificateTbs0(certificate.leaf), issuer, bytes(signatures[1]))).toBe(true);
    expect(verify('sha256', crl.tbs, issuer, bytes(signatures[2]))).toBe(true);
    const opened = openCheckpoint(checkpoint.note, [h.logKey()], h.test.authority.logOrigin);
    expect(opened).toEqual(checkpoint);
    expect(opened.treeSize).toBe(3);
    expect(opened.rootHash).toEqual(frontierOf(h.leaves).root());
  });

  it('refuses a leaf where its tree does not end, and signs nothing of the batch (I11)', async () => {
    const h = await new Harness().usable();
    await h.append(recordItem(h.test));
    const before = h.test.hsm.signed.length;
    for (const firstIndex of [0, 2, 100])
      await expect(
        h.ask({ op: 'append', firstIndex, items: [certificateItem(h.test)] }),
      ).rejects.toMatchObject({ code: 'integrity-log' });
    expect(h.test.hsm.signed.length).toBe(before);
    expect((await h.append(certificateItem(h.test))).checkpoint.treeSize).toBe(2);
  });

  it('grows by a refused item, whose signature alone is missing', async () => {
    const h = await new Harness().usable();
    const good = certificateItem(h.test);
    const bad = certificateItem(h.test, certificateTbs(h.test, { ca: {} }));
    const junk = { purpose: 'certificate' as const, leaf: Buffer.from('junk') };
    const { signatures, checkpoint } = await h.append(bad, good, junk);
    expect(signatures[0]).toMatchObject({
      code: 'policy-lint',
      message: expect.stringMatching(/CA certificate/),
    });
    expect(Buffer.isBuffer(signatures[1])).toBe(true);
    expect(signatures[2]).toMatchObject({ code: 'integrity-log' });
    expect(checkpoint.treeSize).toBe(3);
    expect(checkpoint.rootHash).toEqual(frontierOf(h.leaves).root());
    expect(h.test.hsm.signed.filter(({ ckaId }) => ckaId === '01')).toHaveLength(1);
  });

  it('takes batches in the order in which they came, without waiting for signatures', async () => {
    const h = await new Harness().usable();
    const batches = Array.from({ length: 20 }, () => [certificateItem(h.test), recordItem(h.test)]);
    const results = await Promise.all(batches.map((items) => h.append(...items)));
    expect(results.map(({ checkpoint }) => checkpoint.treeSize)).toEqual(
      batches.map((_, index) => 2 * index + 2),
    );
    expect(results.at(-1)?.checkpoint.rootHash).toEqual(frontierOf(h.leaves).root());
  });

  it('never signs a lower CRL number, within a batch, later, or after a respawn', async () => {
    const h = await new Harness().usable();
    const number = BigInt(nowMs);
    const lower = crlItem(h.test, { crlNumber: number - 1n });
    const { signatures } = await h.append(
      crlItem(h.test, { crlNumber: number }),
      lower,
      crlItem(h.test, { crlNumber: number }),
    );
    expect(Buffer.isBuffer(signatures[0])).toBe(true);
    expect(signatures[1]).toMatchObject({ message: expect.stringMatching(/not above/) });
    expect(signatures[2]).toMatchObject({ message: expect.stringMatching(/not above/) });
    await h.floor.flush();
    await (await h.start()).resume();
    const after = await h.append(crlItem(h.test, { crlNumber: number }));
    expect(after.signatures[0]).toMatchObject({ message: expect.stringMatching(/not above/) });
  });
});

describe('a token that computes wrong signatures of checkpoints', () => {
  /** Bends the next ones by a bit. */
  const bend = (h: Harness, times: number): void => {
    const { hsm } = h.test;
    const whole = hsm.sign.bind(hsm);
    let left = times;
    hsm.sign = async (ckaId, data) => {
      const signature = await whole(ckaId, data);
      if (ckaId === h.test.authority.logKey.ckaId && left-- > 0) signature[7] = (signature[7] ?? 0) ^ 1;
      return signature;
    };
  };
  const isGood = async (h: Harness): Promise<boolean> => {
    const { checkpoint } = await h.append(recordItem(h.test));
    try {
      openCheckpoint(checkpoint.note, [h.logKey()], h.test.authority.logOrigin);
      return true;
    } catch {
      return false;
    }
  };

  it('is asked once more, and no more than that: the server is to see that it goes on', async () => {
    const h = await new Harness().usable();
    bend(h, 1);
    expect(await isGood(h)).toBe(true);
    bend(h, 2);
    expect(await isGood(h)).toBe(false);
  });
});

describe('a CRL', () => {
  it('leaves when its number is on disk, and not where that cannot be written (I11)', async () => {
    const h = await new Harness().usable();
    const file = join(h.folder, 'floor.json');
    const numbers = () => parseFloor(readFileSync(file, 'utf8'))?.crlNumbers;
    const first = await h.append(crlItem(h.test, { crlNumber: 7n }));
    expect(Buffer.isBuffer(first.signatures[0])).toBe(true);
    expect(numbers()?.highest(h.test.issuerKeyId)).toBe(7n);
    rmSync(file);
    mkdirSync(file);
    const { signatures } = await h.append(crlItem(h.test, { crlNumber: 8n }), certificateItem(h.test));
    expect(signatures[0]).toMatchObject({ code: 'unavailable-signer' });
    expect(Buffer.isBuffer(signatures[1])).toBe(true);
    h.floor.stop();
  });
});

describe('before it is usable', () => {
  it('answers nothing but hello, and then nothing but resume', async () => {
    const h = new Harness();
    await h.start();
    const { authority, hsm } = h.test;
    const fresh = new SignerService({ authority, hsm, floor: h.floor, openLog }, h.clock);
    const every: Request[] = [
      { op: 'resume', genesis: true, checkpoint: '', peaks: [] },
      { op: 'leaves', leaves: [] },
      { op: 'resumed' },
      { op: 'append', firstIndex: 0, items: [certificateItem(h.test)] },
      { op: 'signLogged', request: { ...certificateItem(h.test), index: 0, treeSize: 1, path: [] } },
      { op: 'upload', upload: 1, part: Buffer.alloc(0), last: false },
      { op: 'ping' },
      { op: 'stop' },
    ];
    for (const request of every)
      await expect(fresh.handle(request)).rejects.toMatchObject({ code: 'request-malformed' });
    await expect(fresh.handle({ op: 'hello', version: protocolVersion + 1 })).rejects.toMatchObject({
      code: 'config-state',
    });
    for (const request of every.slice(1, 5))
      await expect(h.ask(request)).rejects.toMatchObject({
        code: expect.stringMatching(/request-malformed|unavailable-signer/),
      });
    expect(hsm.signed).toEqual([]);
  });

  it('says who it is', async () => {
    const h = await new Harness().start();
    const greeting = decodeGreeting(await h.ask({ op: 'hello', version: protocolVersion }));
    expect(greeting).toMatchObject({
      version: protocolVersion,
      pid: process.pid,
      trustDomain: 'test.example',
    });
    expect(greeting.issuerKeyIds).toEqual([h.test.issuerKeyId]);
  });

  it('does not sign while a new resume is under way', async () => {
    const h = await new Harness().usable();
    await h.append(recordItem(h.test));
    await h.floor.flush();
    await h.ask({
      op: 'resume',
      genesis: false,
      checkpoint: h.checkpoint ?? '',
      peaks: frontierOf(h.leaves).peaks(),
    });
    await expect(
      h.ask({ op: 'append', firstIndex: 1, items: [certificateItem(h.test)] }),
    ).rejects.toMatchObject({ code: 'unavailable-signer' });
  });
});

describe('genesis', () => {
  it('takes the leaves that were logged ahead', async () => {
    const h = new Harness();
    h.leaves = [recordItem(h.test).leaf, crlItem(h.test).leaf];
    await h.usable();
    expect((await h.append(recordItem(h.test))).checkpoint.rootHash).toEqual(frontierOf(h.leaves).root());
  });

  it('goes on where it was cut short: the same log begins again, no other (I11)', async () => {
    const h = await new Harness().usable();
    await h.append(recordItem(h.test), certificateItem(h.test));
    await h.ask({ op: 'stop' });
    await (await h.start()).genesis();
    const { checkpoint } = await h.append(recordItem(h.test));
    expect(checkpoint.rootHash).toEqual(frontierOf(h.leaves).root());
    await h.ask({ op: 'stop' });
    const whole = h.leaves;
    for (const leaves of [[], whole.slice(0, 2), whole.with(1, recordItem(h.test).leaf)]) {
      h.leaves = leaves;
      await h.start();
      await expect(h.genesis()).rejects.toMatchObject({ code: 'integrity-rewind' });
    }
  });

  it('under way begins no second one (I11)', async () => {
    const h = await new Harness().start();
    const begin: Request = { op: 'resume', genesis: true, checkpoint: '', peaks: [] };
    const leaves = [recordItem(h.test).leaf, recordItem(h.test).leaf];
    const begun = [begin, { op: 'leaves', leaves: [leaves[0]] }, { op: 'resumed' }, begin] as Request[];
    const first = begun.map((request) => h.ask(request));
    await Promise.allSettled(first);
    await expect(h.ask({ op: 'leaves', leaves: leaves.slice(1) })).rejects.toMatchObject({
      code: 'integrity-rewind',
    });
  });

  it('is refused where one of floor and guard is missing (I10, I11)', async () => {
    const h = await new Harness().usable();
    const otherState = new Harness(h.test);
    await otherState.start();
    await expect(otherState.genesis()).rejects.toMatchObject({ code: 'integrity-state' });
    h.test.hsm.guardValues = [];
    await h.start();
    await expect(h.genesis()).rejects.toMatchObject({ code: 'integrity-state' });
  });

  it('is not what a resume without checkpoint falls back to', async () => {
    const h = await new Harness().start();
    await expect(h.resume()).rejects.toMatchObject({ code: 'integrity-state' });
    await h.genesis();
    await h.start();
    await expect(h.ask({ op: 'resume', genesis: false, checkpoint: '', peaks: [] })).rejects.toMatchObject({
      code: 'integrity-log',
    });
  });
});

describe('a respawn', () => {
  async function grown() {
    const h = await new Harness().usable();
    const notes: { note: string | undefined; size: number }[] = [];
    for (let round = 0; round < 4; round += 1) {
      await h.append(recordItem(h.test), certificateItem(h.test), recordItem(h.test));
      notes.push({ note: h.checkpoint, size: h.leaves.length });
    }
    await h.floor.flush();
    return { h, notes };
  }

  it('takes up the tree from any checkpoint it once signed, with the leaves since', async () => {
    const { h, notes } = await grown();
    for (const { note } of notes) {
      await (await h.start()).resume(note);
      expect(openCheckpoint(h.checkpoint ?? '', [h.logKey()]).rootHash).toEqual(frontierOf(h.leaves).root());
      await h.append(recordItem(h.test));
      await h.floor.flush();
    }
  });

  it('takes up leaves that were committed and never reached it', async () => {
    const { h } = await grown();
    h.leaves.push(recordItem(h.test).leaf, certificateItem(h.test).leaf);
    await (await h.start()).resume();
    expect((await h.append(recordItem(h.test))).checkpoint.treeSize).toBe(h.leaves.length);
  });

  it('refuses a state put back (I11)', async () => {
    const { h, notes } = await grown();
    const old = notes[1];
    await h.start();
    await expect(h.resume(old?.note, h.leaves.slice(0, old?.size))).rejects.toMatchObject({
      code: 'integrity-rewind',
    });
  });

  it('refuses a state put back together with its floor: the guard is in the token (I11)', async () => {
    const { readFileSync, writeFileSync } = await import('node:fs');
    const h = await new Harness().usable();
    await h.append(recordItem(h.test));
    await h.floor.flush();
    const file = join(h.folder, 'floor.json');
    const saved = { floor: readFileSync(file), note: h.checkpoint, leaves: [...h.leaves] };
    await h.append(recordItem(h.test));
    await h.floor.flush();
    writeFileSync(file, saved.floor);
    await h.start();
    await expect(h.resume(saved.note, saved.leaves)).rejects.toMatchObject({ code: 'integrity-rewind' });
  });

  it('refuses another history of the same length (I11)', async () => {
    const { h, notes } = await grown();
    const forged = h.leaves.with(-1, recordItem(h.test).leaf);
    await h.start();
    await expect(h.resume(notes[2]?.note, forged)).rejects.toMatchObject({ code: 'integrity-rewind' });
  });

  it('refuses a checkpoint that the log key did not sign, of another log, or with other peaks', async () => {
    const { h } = await grown();
    const other = await new Harness().usable();
    await other.append(recordItem(h.test));
    await h.start();
    await expect(h.resume(other.checkpoint)).rejects.toMatchObject({ code: 'integrity-log' });
    const changed = (h.checkpoint ?? '').replace('\n12\n', '\n13\n');
    await expect(h.resume(changed)).rejects.toMatchObject({ code: 'integrity-log' });
    const peaks = frontierOf(h.leaves.slice(1)).peaks();
    await expect(
      h.ask({ op: 'resume', genesis: false, checkpoint: h.checkpoint ?? '', peaks }),
    ).rejects.toMatchObject({ code: 'integrity-log' });
  });

  it('keeps the CRL numbers of leaves that it only sees again', async () => {
    const h = await new Harness().usable();
    await h.append(recordItem(h.test));
    await h.floor.flush();
    const crl = crlItem(h.test);
    h.leaves.push(crl.leaf);
    await (await h.start()).resume();
    const { signatures } = await h.append(crlItem(h.test, { crlNumber: BigInt(nowMs) - 1n }));
    expect(signatures[0]).toMatchObject({ message: expect.stringMatching(/not above/) });
    const again = {
      op: 'signLogged',
      request: { ...crl, index: 1, treeSize: 0, path: [] },
    } satisfies Request;
    // It may have been sent to the one before.
    await expect(h.ask(again)).rejects.toMatchObject({ code: 'unavailable-signer' });
    await h.ask({ op: 'upload', upload: 1, part: crl.tbs, last: true });
    const signature = await h.ask(again);
    expect(verify('sha256', crl.tbs, h.test.issuerKey, signature)).toBe(true);
  });
});

describe('signing what a crash left unsigned', () => {
  it('needs the leaf to be in the tree (I1)', async () => {
    const h = await new Harness().usable();
    const logged = certificateItem(h.test);
    await h.append(recordItem(h.test), logged, recordItem(h.test));
    await h.floor.flush();
    await (await h.start()).resume();
    const place = { index: 1, treeSize: 3, path: h.path(1, 3) };
    const signature = await h.ask({ op: 'signLogged', request: { ...logged, ...place } });
    expect(verify('sha256', certificateTbs0(logged.leaf), h.test.issuerKey, signature)).toBe(true);

    const before = h.test.hsm.signed.length;
    const never = certificateItem(h.test);
    const attempts = [
      { ...never, ...place },
      { ...never, index: 1, treeSize: 0, path: [] },
      { ...logged, ...place, index: 2 },
      { ...logged, ...place, path: place.path.slice(1) },
      { ...logged, index: 1, treeSize: 0, path: [] },
      { ...logged, index: 1, treeSize: 2, path: h.path(1, 2) },
    ];
    for (const request of attempts) {
      const failed = await h
        .ask({ op: 'signLogged', request })
        .catch((error: unknown) => asVouchError(error).code);
      expect(['integrity-log', 'unavailable-signer']).toContain(failed);
    }
    expect(h.test.hsm.signed.length).toBe(before);
  });

  it('asks again where the tree grew meanwhile', async () => {
    const h = await new Harness().usable();
    const logged = certificateItem(h.test);
    await h.append(logged, recordItem(h.test));
    await (await h.start()).resume();
    const request = { ...logged, index: 0, treeSize: 1, path: [Buffer.alloc(32)] };
    await expect(h.ask({ op: 'signLogged', request })).rejects.toMatchObject({ code: 'unavailable-signer' });
  });

  it('refuses what it refused before', async () => {
    const h = await new Harness().usable();
    const bad = certificateItem(h.test, certificateTbs(h.test, { ca: {} }));
    await h.append(bad);
    await expect(
      h.ask({ op: 'signLogged', request: { ...bad, index: 0, treeSize: 0, path: [] } }),
    ).rejects.toMatchObject({ code: 'policy-lint' });
  });

  it('has no signature for a record', async () => {
    const h = await new Harness().usable();
    const record = recordItem(h.test);
    await h.append(record);
    await expect(
      h.ask({ op: 'signLogged', request: { ...record, index: 0, treeSize: 0, path: [] } }),
    ).rejects.toMatchObject({ code: 'request-malformed' });
  });
});

describe('stop', () => {
  it('leaves both marks at the last tree', async () => {
    const h = await new Harness().usable();
    await h.append(recordItem(h.test), recordItem(h.test));
    await h.ask({ op: 'stop' });
    await h.start();
    expect(h.floor.marks().map((mark) => mark.treeSize)).toEqual([2, 0, 2]);
    await expect(h.resume(undefined, [])).rejects.toMatchObject({ code: 'integrity-log' });
  });
});

/** The keys that sign are the ones in the authority: a checkpoint by the log's, everything else by the issuer's. */
describe('keys', () => {
  it('are never mixed up', async () => {
    const h = await new Harness().usable();
    await h.append(certificateItem(h.test), crlItem(h.test), recordItem(h.test));
    const byLog = h.test.hsm.signed.filter(({ ckaId }) => ckaId === '02');
    const origin = Buffer.from(`${h.test.authority.logOrigin}\n`);
    expect(
      byLog.every(({ data }) => Buffer.isBuffer(data) && data.subarray(0, origin.length).equals(origin)),
    ).toBe(true);
    const byIssuer = h.test.hsm.signed.filter(({ ckaId }) => ckaId === '01');
    expect(byIssuer).toHaveLength(2);
    expect(byIssuer.every(({ data }) => !Buffer.isBuffer(data) || data[0] === 0x30)).toBe(true);
    const { publicKeySpki } = h.test.authority.logKey;
    expect(createPublicKey({ key: publicKeySpki, format: 'der', type: 'spki' }).asymmetricKeyType).toBe(
      'ed25519',
    );
  });
});

function bytes(signature: Buffer | Error | undefined): Buffer {
  if (!Buffer.isBuffer(signature)) throw new Error(`not signed: ${String(signature)}`);
  return signature;
}

function certificateTbs0(leaf: Buffer): Buffer {
  const length = leaf.readUInt16BE(31);
  return leaf.subarray(33, 33 + length);
}
