import { createServer, get } from 'node:http';
import { connect, createServer as createPlainServer } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { service } from '../../client/support.ts';
import { eventually } from '../support/bundle.ts';
import { FakeAuthority } from '../support/fake-authority.ts';
import { listening, proxied } from './support.ts';

test('rotations and CRLs under load: no connection fails, and one that lasts goes on as a database would', async () => {
  const authority = new FakeAuthority();
  const [server, client] = [await service(authority, 'web'), await service(authority, 'gateway')];
  const web = createServer((_request, response) => response.end('fine'));
  const into = await proxied(server, { to: `127.0.0.1:${await listening(web)}` });
  const out = await proxied(client, { to: `127.0.0.1:${into.port}`, expect: 'spiffe://example.org/web' });
  const echo = await listening(
    // Query and answer over one connection, for as long as the test takes.
    createPlainServer((socket) => void socket.on('error', () => undefined).pipe(socket)),
  );
  const intoDb = await proxied(server, { to: `127.0.0.1:${echo}` });
  const outDb = await proxied(client, { to: `127.0.0.1:${intoDb.port}`, expect: 'spiffe://example.org/web' });

  let answers = 0;
  const failures: unknown[] = [];
  let isOver = false;
  /** Each with a connection of its own. */
  const ask = async (): Promise<void> => {
    while (!isOver)
      await new Promise<void>((resolve) => {
        const asked = get({ host: '127.0.0.1', port: out.port, agent: false }, (response) => {
          response.resume();
          response.on('end', () => {
            answers += 1;
            resolve();
          });
        });
        asked.on('error', (error) => {
          failures.push(error);
          resolve();
        });
      });
  };
  const asking = [ask(), ask(), ask(), ask()];
  const session = connect({ host: '127.0.0.1', port: outDb.port });
  onTestFinished(() => void session.destroy());
  let queries = 0;
  session.on('data', () => {
    queries += 1;
    session.write('select 1;');
  });
  session.write('select 1;');

  for (let at = 0; at < 10; at += 1) {
    const [answered, queried] = [answers, queries];
    await Promise.all([server.rotate(), client.rotate()]);
    authority.crlNumber += 1n;
    server.publish();
    client.publish();
    await eventually(() => (answers > answered + 5 && queries > queried + 5 ? true : undefined));
  }
  isOver = true;
  await Promise.all(asking);
  expect(failures).toEqual([]);
  expect(answers).toBeGreaterThan(50);
  expect(session.destroyed).toBe(false);
  expect([...into.notices, ...out.notices]).toEqual([]);
});
