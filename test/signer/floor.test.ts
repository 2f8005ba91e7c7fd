import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { Floor, type MarkIntervals } from '../../src/signer/floor.ts';
import { fileGuards, Guard, type GuardStore } from '../../src/signer/guard.ts';
import {
  encodeFloor,
  encodeGuard,
  type LogIdentity,
  parseFloor,
  parseGuard,
} from '../../src/signer/marks.ts';
import { FakeClock } from '../fakes/clock.ts';
import { temporaryFolder } from '../support/hsm.ts';
import { SoftwareHsm } from './fixture.ts';

const logKeySha256 = 'cd'.repeat(32);
const log = { origin: 'test.example/vouch-log', logKeySha256 };
const issuer = 'ab'.repeat(20);
const root = (fill: number) => Buffer.alloc(32, fill);

function newFloor(
  overrides: {
    folder?: string;
    guards?: GuardStore;
    log?: LogIdentity;
    clock?: FakeClock;
    intervals?: MarkIntervals;
  } = {},
) {
  const folder = overrides.folder ?? temporaryFolder('floor');
  const guards = overrides.guards ?? new SoftwareHsm().guards;
  const failures: { error: Error; stale: boolean }[] = [];
  const parts = {
    file: join(folder, 'floor.json'),
    log: overrides.log ?? log,
    guards,
    clock: overrides.clock ?? new FakeClock(),
    intervals: overrides.intervals ?? { floorMs: 10, guardMs: 10, staleMs: 100, guardStaleMs: 300 },
    onFailure: (error: Error, stale: boolean) => void failures.push({ error, stale }),
  };
  return { folder, guards, failures, file: parts.file, open: () => Floor.open(parts) };
}

async function started(test: ReturnType<typeof newFloor>, treeSize = 10): Promise<Floor> {
  const floor = await test.open();
  floor.advance(treeSize, root(treeSize));
  await floor.start();
  floor.stop();
  return floor;
}

describe('the floor', () => {
  it('remembers tree and CRL numbers across lives', async () => {
    const test = newFloor();
    const floor = await started(test);
    floor.crlNumbers.raise(issuer, { scope: '3', crlNumber: 2n ** 100n, tbsSha256: root(7) });
    floor.changed();
    floor.advance(12, root(12));
    await floor.flush();
    const next = await test.open();
    expect(next.marks().map((mark) => mark.treeSize)).toEqual([12, 10, 12]);
    expect(next.crlNumbers.ofScope(issuer, '3')).toEqual({ crlNumber: 2n ** 100n, tbsSha256: root(7) });
    expect(next.crlNumbers.highest(issuer)).toBe(2n ** 100n);
    expect(next.crlNumbers.ofScope(issuer, 'full')).toBeUndefined();
  });

  it('never goes down, nor to another tree of its size (I11)', async () => {
    const test = newFloor();
    const floor = await started(test, 10);
    for (const [size, fill] of [
      [9, 9],
      [10, 11],
    ] as const)
      expect(() => floor.advance(size, root(fill))).toThrow(
        expect.objectContaining({ code: 'integrity-rewind' }),
      );
    floor.advance(10, root(10));
    floor.advance(11, root(11));
  });

  it('is written before its guard: a guard above it would read as a floor put back', async () => {
    const hsm = new SoftwareHsm();
    const seen: number[][] = [];
    const guards: GuardStore = {
      read: hsm.guards.read,
      replace: (value, obsolete) => {
        const floorSize = parseFloor(readFileSync(test.file, 'utf8'))?.treeSize ?? -1;
        seen.push([floorSize, parseGuard(value)?.treeSize ?? -1]);
        return hsm.guards.replace(value, obsolete);
      },
    };
    const test = newFloor({ guards });
    const floor = await started(test, 10);
    floor.advance(11, root(11));
    await floor.flush();
    expect(seen).toEqual([
      [10, 10],
      [11, 11],
    ]);
  });

  it('is readable by its owner alone and written whole', async () => {
    const test = newFloor();
    await started(test);
    expect(readFileSync(test.file, 'utf8')).toMatch(/^\{.*\}\n$/);
    expect(statSync(test.file).mode & 0o777).toBe(0o600);
  });

  it('is written within its interval while it changes', async () => {
    const test = newFloor();
    const floor = await test.open();
    floor.advance(1, root(1));
    await floor.start();
    floor.advance(99, root(99));
    await expect.poll(() => parseFloor(readFileSync(test.file, 'utf8'))?.treeSize).toBe(99);
    floor.stop();
  });

  it('missing, or of another log, is refused outside genesis (I10, I11)', async () => {
    const test = newFloor();
    await started(test);
    rmSync(test.file);
    const floor = await test.open();
    expect(floor.exists()).toBe(true);
    expect(() => floor.marks()).toThrow(expect.objectContaining({ code: 'integrity-state' }));
    const other = newFloor();
    await started(other);
    const foreign = await newFloor({
      folder: other.folder,
      guards: other.guards,
      log: { ...log, origin: 'test.example/other' },
    }).open();
    expect(() => foreign.marks()).toThrow(/another log's/);
  });

  it('of nonsense is refused', async () => {
    const test = newFloor();
    await started(test);
    const good = readFileSync(test.file, 'utf8');
    for (const text of [
      '',
      '{}',
      'x',
      good.slice(0, -3),
      good.replace('"version":1', '"version":2'),
      good.replace(/[0-9a-f]{64}/, 'aa'),
    ]) {
      writeFileSync(test.file, text);
      await expect(test.open()).rejects.toMatchObject({ code: 'integrity-state' });
    }
  });

  it('without guard is refused: the token was exchanged (I11)', async () => {
    const test = newFloor();
    await started(test);
    const floor = await newFloor({ folder: test.folder }).open();
    expect(() => floor.marks()).toThrow(/no guard for this log/);
  });

  it('does not exist before genesis, and does after', async () => {
    const test = newFloor();
    const floor = await test.open();
    expect(floor.exists()).toBe(false);
    await started(test);
    expect((await test.open()).exists()).toBe(true);
    expect((await newFloor({ guards: test.guards }).open()).exists()).toBe(true);
    expect((await newFloor({ folder: test.folder }).open()).exists()).toBe(true);
  });

  it('of an earlier log hands its CRL numbers to the next (restore)', async () => {
    const test = newFloor();
    const floor = await started(test);
    floor.crlNumbers.raise(issuer, { scope: 'full', crlNumber: 55n, tbsSha256: root(1) });
    floor.changed();
    await floor.flush();
    const next = await newFloor({
      folder: test.folder,
      guards: test.guards,
      log: { ...log, origin: 'test.example/vouch-log-2' },
    }).open();
    expect(next.exists()).toBe(false);
    expect(next.crlNumbers.highest(issuer)).toBe(55n);
    const byGuard = await newFloor({
      guards: test.guards,
      log: { ...log, logKeySha256: 'ef'.repeat(32) },
    }).open();
    expect(byGuard.crlNumbers.highest(issuer)).toBe(55n);
  });

  it('that cannot be written refuses to start, and says stale when it lasts', async () => {
    const clock = new FakeClock();
    const test = newFloor({ clock });
    const floor = await started(test);
    rmSync(test.file);
    mkdirSync(test.file);
    floor.advance(11, root(11));
    await expect(floor.flush()).rejects.toMatchObject({ code: 'unavailable-signer' });
    await expect(floor.start()).rejects.toMatchObject({ code: 'unavailable-signer' });
    rmSync(test.file, { recursive: true });
    await floor.start();
    rmSync(test.file);
    mkdirSync(test.file);
    floor.advance(12, root(12));
    await expect.poll(() => test.failures.length).toBeGreaterThan(0);
    expect(test.failures.every(({ stale }) => !stale)).toBe(true);
    clock.pass(101);
    await expect.poll(() => test.failures.at(-1)?.stale).toBe(true);
    rmSync(test.file, { recursive: true });
    await expect.poll(() => parseFloor(readFileSync(test.file, 'utf8'))?.treeSize).toBe(12);
    floor.stop();
  });
});

describe('nothing is signed any more', () => {
  it('where a write of the floor hangs, as a disk that is away makes it', async () => {
    const clock = new FakeClock();
    const test = newFloor({ clock });
    const floor = await started(test);
    await floor.start();
    const blocked = `${test.file}.${process.pid}.tmp`;
    execFileSync('mkfifo', [blocked]);
    floor.advance(11, root(11));
    clock.pass(101);
    await expect.poll(() => test.failures.at(-1)?.stale).toBe(true);
    floor.stop();
    closeSync(openSync(blocked, constants.O_RDONLY | constants.O_NONBLOCK));
  });

  it.each([
    ['fails', () => Promise.reject(new Error('the other disk is away'))],
    ['hangs', () => new Promise<never>(() => undefined)],
  ])('where a write of the guard %s for long', async (_what, replace) => {
    const clock = new FakeClock();
    const store = new SoftwareHsm().guards;
    let isAway = false;
    const guards: GuardStore = {
      read: store.read,
      replace: (...values) => (isAway ? replace() : store.replace(...values)),
    };
    const test = newFloor({ clock, guards });
    const floor = await started(test);
    await floor.start();
    isAway = true;
    floor.advance(11, root(11));
    await expect.poll(() => parseFloor(readFileSync(test.file, 'utf8'))?.treeSize).toBe(11);
    clock.pass(299);
    expect(test.failures.filter(({ stale }) => stale)).toEqual([]);
    clock.pass(2);
    await expect.poll(() => test.failures.at(-1)?.stale).toBe(true);
    floor.stop();
  });
});

describe('the guard', () => {
  const mark = (treeSize: number) => ({
    ...log,
    treeSize,
    rootHash: root(1),
    crlNumbers: parseGuardNumbers(),
  });

  it('keeps the newest and the one before', async () => {
    const { guards } = new SoftwareHsm();
    const guard = await Guard.open(guards, log);
    for (const size of [1, 2, 3, 4]) await guard.write(mark(size));
    expect((await guards.read()).map((value) => parseGuard(value)?.treeSize)).toEqual([3, 4]);
    const again = await Guard.open(guards, log);
    expect(again.marks().map((one) => one.treeSize)).toEqual([3, 4]);
    await again.write(mark(5));
    expect((await guards.read()).map((value) => parseGuard(value)?.sequence)).toEqual([4, 5]);
  });

  it('is not worn out by saying the same again', async () => {
    const { guards } = new SoftwareHsm();
    const guard = await Guard.open(guards, log);
    await guard.write(mark(1));
    const [value] = await guards.read();
    await guard.write(mark(1));
    await (await Guard.open(guards, log)).write(mark(1));
    expect(await guards.read()).toEqual([value]);
  });

  it('is replaced once a minute at most in a day of work, and never in an idle one', async () => {
    const hsm = new SoftwareHsm();
    const wear = { created: 0, destroyed: 0 };
    const guards: GuardStore = {
      read: hsm.guards.read,
      replace: (value, obsolete) => {
        wear.created += 1;
        wear.destroyed += obsolete.length;
        return hsm.guards.replace(value, obsolete);
      },
    };
    const dayMs = 86_400_000;
    // The intervals that are shipped, save for the floor's: it writes to the disk each second.
    const intervals = { floorMs: dayMs, guardMs: 60_000, staleMs: 2 * dayMs, guardStaleMs: 180_000 };
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    onTestFinished(() => void vi.useRealTimers());
    const floor = await newFloor({ guards, intervals }).open();
    floor.advance(1, root(1));
    await floor.start();
    expect(wear).toEqual({ created: 1, destroyed: 0 });
    const passed = async (minutes: number, work: () => void) => {
      for (let minute = 0; minute < minutes; minute += 1) {
        // More than one change a second.
        for (let change = 0; change < 100; change += 1) work();
        await vi.advanceTimersByTimeAsync(60_000);
      }
    };
    await passed(1440, () => undefined);
    expect(wear).toEqual({ created: 1, destroyed: 0 });
    let treeSize = 1;
    await passed(1440, () => floor.advance(++treeSize, root(2)));
    expect(wear).toEqual({ created: 1441, destroyed: 1439 });
    expect(await hsm.guards.read()).toHaveLength(2);
    floor.stop();
  });

  it('survives a crash at each step of its replacement', async () => {
    const hsm = new SoftwareHsm();
    const guard = await Guard.open(hsm.guards, log);
    await guard.write(mark(1));
    await guard.write(mark(2));
    const store: GuardStore = {
      read: hsm.guards.read,
      replace: async (value) => {
        hsm.guardValues.push(value);
        throw new Error('power cut between create and destroy');
      },
    };
    await expect((await Guard.open(store, log)).write(mark(3))).rejects.toThrow(/power cut/);
    const next = await Guard.open(hsm.guards, log);
    expect(next.marks().map((one) => one.treeSize)).toEqual([1, 2, 3]);
    await next.write(mark(4));
    expect((await hsm.guards.read()).map((value) => parseGuard(value)?.treeSize)).toEqual([3, 4]);
  });

  it('that a power cut left empty is passed over for the one before', async () => {
    const hsm = new SoftwareHsm();
    await (await Guard.open(hsm.guards, log)).write(mark(6));
    hsm.guardValues.push(Buffer.alloc(0), Buffer.from('{"version":1'));
    const guard = await Guard.open(hsm.guards, log);
    expect(guard.marks().map((one) => one.treeSize)).toEqual([6]);
    expect(guard.malformed).toBe(2);
  });

  it.each([
    ['another origin', { ...log, origin: 'other/log' }],
    ['another key under the same origin', { ...log, logKeySha256: 'ef'.repeat(32) }],
  ])('leaves the guards of logs with %s alone', async (_what, other) => {
    const hsm = new SoftwareHsm();
    await (await Guard.open(hsm.guards, other)).write({ ...mark(9), ...other });
    const guard = await Guard.open(hsm.guards, log);
    expect(guard.marks()).toEqual([]);
    expect(guard.foreign.map((one) => one.treeSize)).toEqual([9]);
    for (const size of [1, 2, 3]) await guard.write(mark(size));
    expect((await Guard.open(hsm.guards, other)).marks().map((one) => one.treeSize)).toEqual([9]);
  });

  it('works in a file as in a token', async () => {
    const file = join(temporaryFolder('guard'), 'mark');
    const guard = await Guard.open(fileGuards(file), log);
    for (const size of [1, 2, 3]) await guard.write(mark(size));
    expect((await Guard.open(fileGuards(file), log)).marks().map((one) => one.treeSize)).toEqual([2, 3]);
    expect(readFileSync(file, 'utf8').split('\n')).toHaveLength(3);
  });

  function parseGuardNumbers() {
    const floor = parseFloor(
      `{"version":1,"origin":"x","logKeySha256":"${logKeySha256}","treeSize":1,"rootHash":"${'00'.repeat(32)}","crlNumbers":{"${issuer}":"7"}}`,
    );
    if (!floor) throw new Error('floor');
    return floor.crlNumbers;
  }
});

describe('marks', () => {
  it('read back as they were written, and nothing else does', () => {
    const { crlNumbers } = parseFloor(
      `{"version":1,"origin":"x","logKeySha256":"${logKeySha256}","treeSize":1,"rootHash":"${'00'.repeat(32)}","crlNumbers":{}}`,
    ) ?? { crlNumbers: undefined };
    if (!crlNumbers) throw new Error('floor');
    crlNumbers.raise(issuer, { scope: 'full', crlNumber: 12n, tbsSha256: root(3) });
    const mark = { ...log, treeSize: 5, rootHash: root(9), crlNumbers };
    expect(parseFloor(encodeFloor(mark))).toEqual(mark);
    const guard = encodeGuard({ ...mark, sequence: 4 });
    expect(guard.length).toBeLessThan(500);
    expect(parseGuard(guard)).toMatchObject({ treeSize: 5, sequence: 4 });
    expect(parseGuard(guard)?.crlNumbers.highest(issuer)).toBe(12n);
    for (const text of [
      'null',
      '[]',
      '{"version":1}',
      guard.toString().replace('"treeSize":5', '"treeSize":-5'),
      guard.toString().replace('"12"', '"-1"'),
      guard.toString().replace('"12"', '12'),
    ])
      expect(parseGuard(Buffer.from(text))).toBeUndefined();
  });
});
