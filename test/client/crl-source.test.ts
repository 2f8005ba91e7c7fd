import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { CrlSource } from '../../src/client/crl-source.ts';

const never = new AbortController().signal;

/** A publication point that answers as `listener` says, and a source that asks it. */
async function source(listener: RequestListener, limits?: ConstructorParameters<typeof CrlSource>[1]) {
  const server = createServer(listener);
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const one = new CrlSource(`http://127.0.0.1:${(server.address() as AddressInfo).port}/x.crl`, limits);
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
