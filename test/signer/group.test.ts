// Several signers over one log: each has the whole tree and signs for its issuer; who is away costs its own items only.
import { describe, expect, it } from 'vitest';
import { VouchError } from '../../src/core/errors.ts';
import { crlBody, encodeLeaf, jsonBody } from '../../src/log/leaf.ts';
import { signerGroup } from '../../src/signer/group.ts';
import type { AppendBatch, AppendItem, AppendResult, SignerStatus } from '../../src/signer/port.ts';
import type { Checkpoint } from '../../src/log/checkpoint.ts';

const context = Buffer.alloc(32);
const first = '1a'.repeat(20);
const standby = '2b'.repeat(20);

const recordItem: AppendItem = {
  purpose: 'record',
  leaf: encodeLeaf({ type: 'token', timeMs: 1, issuerKeyId: '', body: jsonBody({}), context }),
};

function crlItem(issuerKeyId: string): AppendItem {
  const body = crlBody({ scope: 'full', crlNumber: 1n, tbsSha256: Buffer.alloc(32) });
  return { purpose: 'crl', leaf: encodeLeaf({ type: 'crl', timeMs: 1, issuerKeyId, body, context }) };
}

/** A signer that answers when told to. */
class Fake {
  readonly started = Promise.withResolvers<Checkpoint>();
  readonly asked: { batch: AppendBatch; answer: PromiseWithResolvers<AppendResult> }[] = [];
  state: SignerStatus['state'] = 'usable';
  failures: SignerStatus['failures'] = { session: 0, login: 0, process: 0, start: 0, late: 0 };

  readonly ready = () => this.started.promise;
  readonly close = () => Promise.resolve();
  readonly retry = () => Promise.resolve(this.status());
  readonly sent: Buffer[] = [];
  readonly upload = async (_issuerKeyId: string, chunks: Iterable<Buffer>) => void this.sent.push(...chunks);
  readonly ocspKey = () => undefined;
  readonly signOcsp = (issuerKeyId: string) => Promise.resolve(Buffer.from(`${issuerKeyId} ${this.state}`));
  readonly jwtKey = () => undefined;
  readonly signJwt = (issuerKeyId: string) => Promise.resolve(Buffer.from(`${issuerKeyId} jwt`));
  readonly signLogged = () => Promise.resolve(Buffer.from('again'));

  readonly append = (batch: AppendBatch): Promise<AppendResult> => {
    const answer = Promise.withResolvers<AppendResult>();
    this.asked.push({ batch, answer });
    return answer.promise;
  };

  readonly status = (): SignerStatus => ({
    ...{ state: this.state, pid: 1, restarts: 1, lastSuccessMs: undefined, lastProblem: undefined },
    ...{ sessions: undefined, failures: this.failures },
    problem: this.state === 'usable' ? undefined : 'away',
  });

  answer(name: string, at = this.asked.length - 1): void {
    const asked = this.asked[at];
    if (!asked) throw new Error('it was not asked');
    const isSigned = ({ purpose }: AppendItem) => purpose !== 'record' && purpose !== 'foreign';
    const signatures = asked.batch.items.map((item) => (isSigned(item) ? Buffer.from(name) : undefined));
    asked.answer.resolve({ signatures, checkpoint: checkpoint(name) });
  }

  fail(error: Error): void {
    this.asked.at(-1)?.answer.reject(error);
  }
}

function checkpoint(note: string): Checkpoint {
  return { origin: 'o', treeSize: 1, rootHash: Buffer.alloc(32), note };
}

function group() {
  const [one, two] = [new Fake(), new Fake()];
  const halts: VouchError[] = [];
  const members = [
    { issuerKeyIds: [first], signer: one },
    { issuerKeyIds: [standby], signer: two },
  ];
  const made = signerGroup(members, { onIntegrityFailure: (error) => halts.push(error) });
  const append = (...items: AppendItem[]) => made.append({ firstIndex: 0, items });
  return { one, two, halts, made, append };
}

const away = new VouchError('unavailable-signer', 'away');

describe('a batch', () => {
  it('goes to all of them, whole and in one turn, to be signed by whose issuer it is', async () => {
    const { one, two, append } = group();
    const result = append(recordItem, crlItem(first), crlItem(standby));
    expect(one.asked[0]?.batch.items.map(({ purpose }) => purpose)).toEqual(['record', 'crl', 'foreign']);
    expect(two.asked[0]?.batch.items.map(({ purpose }) => purpose)).toEqual(['record', 'foreign', 'crl']);
    one.answer('one');
    two.answer('two');
    const { signatures } = await result;
    expect(signatures.map(String)).toEqual(['undefined', 'one', 'two']);
  });

  it('waits for nobody who has nothing to sign in it', async () => {
    const { one, two, append } = group();
    const ofStandby = append(recordItem, crlItem(standby));
    two.answer('two');
    expect((await ofStandby).checkpoint.note).toBe('two');
    const records = append(recordItem);
    two.answer('two again');
    expect((await records).checkpoint.note).toBe('two again');
    expect(one.asked).toHaveLength(2);
  });

  it('loses the signatures of who fails, and nothing else', async () => {
    const { one, two, append, halts } = group();
    const mixed = append(crlItem(first), crlItem(standby));
    two.answer('two');
    one.fail(away);
    const { signatures, checkpoint: head } = await mixed;
    expect(signatures[0]).toMatchObject({ code: 'unavailable-signer' });
    expect([String(signatures[1]), head.note]).toEqual(['two', 'two']);
    const records = append(recordItem);
    one.fail(away);
    two.fail(away);
    await expect(records).rejects.toMatchObject({ code: 'unavailable-signer' });
    expect(halts).toEqual([]);
  });

  it('stops all of them where one finds the log rewound or another, also one that nobody waited for', async () => {
    for (const code of ['integrity-rewind', 'integrity-log'] as const) {
      const { one, two, append, halts } = group();
      const ofStandby = append(crlItem(standby));
      two.answer('two');
      await ofStandby;
      one.fail(new VouchError(code, 'another log'));
      await expect.poll(() => halts.map((halt) => halt.code)).toEqual([code]);
    }
  });

  it('is in the log, and no more, where its signer has lost its own marks', async () => {
    const { one, two, append, halts } = group();
    const ofFirst = append(crlItem(first));
    one.fail(new VouchError('integrity-state', 'no floor'));
    two.answer('two');
    const { signatures, checkpoint: head } = await ofFirst;
    expect(signatures).toEqual([expect.objectContaining({ code: 'unavailable-signer' })]);
    expect(head.note).toBe('two');
    expect(halts).toEqual([]);
  });
});

describe('a group', () => {
  it('sends a CRL to whose issuer it is, and to no other', async () => {
    const { one, two, made } = group();
    await made.upload(standby, [Buffer.from('crl')]);
    expect([one.sent, two.sent.map(String)]).toEqual([[], ['crl']]);
    await expect(made.upload('3c'.repeat(20), [])).rejects.toMatchObject({ code: 'unavailable-signer' });
  });

  it('is ready with the first of them that is, and has all of them when all are', async () => {
    const { one, two, made } = group();
    const all = made.allReady();
    two.started.resolve(checkpoint('two'));
    expect((await made.ready()).note).toBe('two');
    expect(await Promise.race([all, Promise.resolve('not yet')])).toBe('not yet');
    one.started.resolve(checkpoint('one'));
    await all;
  });

  it('is ready though one refuses its PIN; not where none will sign, or one finds the log rewound', async () => {
    const pin = new VouchError('config-pin', 'refused');
    const ready = group();
    ready.one.started.reject(pin);
    ready.two.started.resolve(checkpoint('two'));
    expect((await ready.made.ready()).note).toBe('two');
    const none = group();
    none.one.started.reject(pin);
    none.two.started.reject(away);
    await expect(none.made.ready()).rejects.toMatchObject({ code: 'config-pin' });
    const rewound = group();
    rewound.two.started.reject(new VouchError('integrity-rewind', 'put back'));
    await expect(rewound.made.ready()).rejects.toMatchObject({ code: 'integrity-rewind' });
    expect(rewound.halts).toHaveLength(1);
  });

  it('says of each issuer whether it can be signed for, and of all whether any can', async () => {
    const { one, two, made } = group();
    one.state = 'degraded';
    expect([made.status(first).state, made.status(standby).state]).toEqual(['degraded', 'usable']);
    expect(made.status()).toMatchObject({ state: 'usable', problem: undefined, restarts: 2 });
    two.state = 'unusable';
    expect(made.status()).toMatchObject({ state: 'degraded', problem: 'away' });
    expect(made.status('3c'.repeat(20))).toMatchObject({ state: 'unusable', pid: undefined });
    const request = { ...crlItem('3c'.repeat(20)), index: 0, path: [], treeSize: 1, purpose: 'crl' } as const;
    await expect(made.signLogged(request)).rejects.toMatchObject({ code: 'unavailable-signer' });
    expect(String(await made.signLogged({ ...request, ...crlItem(first), purpose: 'crl' }))).toBe('again');
  });

  it('tells whoever has them tried again of the one that does not sign, though another does', async () => {
    const { one, two, made } = group();
    expect(await made.retry()).toMatchObject({ state: 'usable', problem: undefined });
    two.state = 'unusable';
    expect(await made.retry()).toMatchObject({ state: 'unusable', problem: 'standby: away' });
    [one.state, two.state] = ['unusable', 'usable'];
    expect(await made.retry()).toMatchObject({ state: 'unusable', problem: 'away' });
  });

  it('counts the failures of all of them, whichever signs now', () => {
    const { one, two, made } = group();
    one.failures = { ...one.failures, process: 3, late: 1 };
    two.failures = { ...two.failures, process: 2 };
    expect(made.status().failures).toMatchObject({ process: 5, late: 1, start: 0 });
    one.state = 'degraded';
    expect(made.status().failures).toMatchObject({ process: 5, late: 1, start: 0 });
  });
});
