import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { CrlSource } from '../../src/client/crl-source.ts';
import { MovedClock } from './support.ts';

const never = new AbortController().signal;

/** A publication point that answers as `listener` says, and a source that asks it. */
async function source(listener: RequestListener, options?: ConstructorParameters<typeof CrlSource>[1]) {
  const server = createServer(listener);
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const one = new CrlSource(`http://127.0.0.1:${(server.address() as AddressInfo).port}/x.crl`, options);
  onTestFinished(() => {
    one.close();
    server.closeAllConnections();
    server.close();
  });
  return one;
}

test('a URL that swallows the request is given up soon', async () => {
  const one = await source(() => undefined, { silenceMs: 50 });
  await expect(one.fetch(never)).rejects.toMatchObject({
    code: 'unavailable-server',
    message: expect.stringMatching(/cannot be fetched: no answer within 0.05 s$/) as string,
  });
});

test('one that answers byte by byte is given up, too', async () => {
  const drip: RequestListener = (_request, response) => {
    const timer = setInterval(() => response.write('x'), 5);
    response.once('close', () => clearInterval(timer));
  };
  const one = await source(drip, { wholeMs: 100 });
  await expect(one.fetch(never)).rejects.toMatchObject({
    code: 'unavailable-server',
    message: expect.stringMatching(/cannot be fetched: no answer within 0.1 s$/) as string,
  });
});

describe('a URL that is asked for too much', () => {
  test.each([
    ['30', 30],
    ['3600', 60],
    [new Date(Math.ceil(Date.now() / 1000) * 1000 + 40_000).toUTCString(), 40],
  ])('and answers Retry-After: %s is asked again after %i s', async (header, seconds) => {
    const clock = new MovedClock();
    let asked = 0;
    const one = await source(
      (_request, response) => {
        asked += 1;
        response.writeHead(503, { 'retry-after': header }).end();
      },
      { clock },
    );
    const refused = { code: 'unavailable-server', message: expect.stringMatching(/answers 503$/) as string };
    await expect(one.fetch(never)).rejects.toMatchObject(refused);
    clock.ahead = (seconds - 5) * 1000;
    await expect(one.fetch(never)).rejects.toMatchObject(refused);
    expect(asked).toBe(1);
    clock.ahead = (seconds + 1) * 1000;
    await expect(one.fetch(never)).rejects.toMatchObject(refused);
    expect(asked).toBe(2);
  });

  test('and says nothing of when, or something else, is asked the next time', async () => {
    const headers = [undefined, 'soon'];
    const one = await source((_request, response) => {
      const header = headers.shift();
      response.writeHead(429, header === undefined ? {} : { 'retry-after': header }).end();
    });
    for (let left = headers.length; left > 0; left -= 1) {
      await expect(one.fetch(never)).rejects.toMatchObject({ retryAfterSeconds: undefined });
      expect(headers).toHaveLength(left - 1);
    }
  });
});
