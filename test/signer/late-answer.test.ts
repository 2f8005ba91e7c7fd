import { expect, it, onTestFinished } from 'vitest';
import { openCheckpoint } from '../../src/log/note.ts';
import { signalTo } from '../support/signal.ts';
import { LiveLog, liveCertificate, liveSigner, startSigner } from './live.ts';

it('the checkpoint of an answer that comes after its deadline is handed over, the one in time is not', async () => {
  const live = await liveSigner();
  const log = new LiveLog(live);
  const late: string[] = [];
  const signer = startSigner(log, {
    limits: { deadlineMs: 500, hangMs: 30_000 },
    onLate: ({ note }) => void late.push(note),
  });
  onTestFinished(() => signer.close());
  log.checkpoint = (await signer.ready()).note;
  const append = () => {
    const items = [liveCertificate(live)];
    const firstIndex = log.commit(items);
    return signer.append({ firstIndex, items, auditPath: (index, size) => log.auditPath(index, size) });
  };
  const { pid } = signer.status();
  signalTo(pid, 'SIGSTOP');
  await expect(append()).rejects.toMatchObject({ code: 'unavailable-signer' });
  expect(late).toEqual([]);
  signalTo(pid, 'SIGCONT');
  await expect.poll(() => late.length, { timeout: 20_000 }).toBe(1);
  const { treeSize, rootHash } = openCheckpoint(late[0] ?? '', [live.logKey], live.logKey.name);
  expect({ treeSize, rootHash }).toEqual({ treeSize: log.leaves.length, rootHash: log.root() });
  const inTime = () =>
    append().then(
      () => true,
      () => false,
    );
  // A loaded machine takes longer than the deadline now and then; each that was late is handed over.
  let lateOnes = 1;
  while (!(await inTime())) lateOnes += 1;
  await expect.poll(() => late.length, { timeout: 20_000 }).toBe(lateOnes);
});
