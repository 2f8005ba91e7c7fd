import { expect, it } from 'vitest';
import { Turns } from '../../../src/attestation/workload/unix/turns.ts';

/** Work that says what it is when it is done. */
function bench() {
  const [turns, done] = [new Turns(), [] as string[]];
  let atOnce = 0;
  const take = (uid: number, name: string, fails = false) =>
    turns.take(uid, async () => {
      atOnce += 1;
      expect(atOnce).toBe(1);
      await new Promise((resolve) => setImmediate(resolve));
      atOnce -= 1;
      done.push(name);
      if (fails) throw new Error(name);
      return name;
    });
  return { take, done };
}

it('who brings much waits for himself, others for one of his', async () => {
  const { take, done } = bench();
  const many = Array.from({ length: 20 }, (_, at) => take(1, `many-${at}`));
  expect(await Promise.all([take(2, 'one'), take(2, 'two')])).toEqual(['one', 'two']);
  expect(done).toEqual(['many-0', 'one', 'many-1', 'two']);
  await Promise.all(many);
  expect(done).toHaveLength(22);
  expect(await take(1, 'later')).toBe('later');
});

it('who brings too much is refused, and nobody else', async () => {
  const { take } = bench();
  const many = Array.from({ length: 65 }, (_, at) => take(1, `many-${at}`));
  await expect(take(1, 'more')).rejects.toMatchObject({ code: 'denied-workload' });
  expect(await take(2, 'one')).toBe('one');
  await Promise.all(many);
});

it('what fails keeps nobody', async () => {
  const { take } = bench();
  const failing = take(1, 'failing', true);
  const next = take(1, 'next');
  await expect(failing).rejects.toThrow('failing');
  expect(await next).toBe('next');
});
