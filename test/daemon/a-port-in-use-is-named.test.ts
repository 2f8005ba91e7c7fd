import { once } from 'node:events';
import net from 'node:net';
import { beforeAll, expect, it } from 'vitest';
import { type Authority, initAuthority } from '../support/daemon.ts';

let authority: Authority;

beforeAll(async () => {
  authority = await initAuthority();
});

it.each(['enrollment', 'publication', 'operations'] as const)(
  'the port of %s: the server ends with its address, and nothing is left running',
  async (listener) => {
    let listen = '';
    authority.configure((document) => {
      listen = String(document[listener].listen);
    });
    const [host = '', port = ''] = listen.split(':');
    const other = net.createServer().listen(Number(port), host);
    await once(other, 'listening');
    const refused = await authority.refusal();
    expect(refused.code).toBe(78);
    expect(refused.problem.detail).toContain(listen);
    expect(refused.problem.detail).toMatch(/in use/);
    other.close();
    await once(other, 'close');
  },
);

it('and starts when the ports are free', async () => {
  await authority.start();
  await authority.enroll('orders');
});
