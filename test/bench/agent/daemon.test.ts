import { afterAll, beforeAll, expect, test } from 'vitest';
import { apis, measureDaemonStreams } from './daemon-streams.ts';
import { Host, programs, restingRss } from './host.ts';
import { measureStarts } from './start.ts';

/** What a busy machine may be slower, and its allocator more generous; `npm run bench:agent` has the figures. */
const slack = process.env.CI === undefined ? 1.5 : 3;

let host: Host;
beforeAll(async () => {
  host = await Host.boot();
});
afterAll(() => host.close());

test('an agent serves its first certificate within a few starts of Node', async () => {
  const { node, firstSvid } = await measureStarts(host, programs.bundle ?? [], 5);
  const ratios = firstSvid.map((ms, round) => ms / (node[round] ?? Number.NaN));
  expect(Math.min(...ratios)).toBeLessThan(5 * slack);
}, 60_000);

test('an agent with ten entries rests in 90 MB', async () => {
  const { parentId } = await host.parent(10);
  const agent = await host.launch(parentId);
  await agent.ready;
  expect(await restingRss(agent.pid)).toBeLessThan(90e6 * slack);
  await agent.end();
}, 60_000);

test.each(Object.entries(apis))(
  'streams of %s are small, and a change reaches all in a second',
  async (_name, api) => {
    const figures = await measureDaemonStreams(host, api, { connections: 500, furtherStreams: 2000 });
    expect(figures.bytesOfConnection).toBeLessThan(64 * 1024 * slack);
    expect(figures.bytesOfStream).toBeLessThan(5 * 1024 * slack);
    expect(Math.min(...figures.changeMs)).toBeLessThan(1000 * slack);
    expect(Math.min(...figures.changeOfStreamsMs)).toBeLessThan(1000 * slack);
  },
  120_000,
);
