import { execFile } from 'node:child_process';
import { createPrivateKey, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { parseCertificate } from '../../../src/x509/certificate.ts';
import { decodePem } from '../../../src/x509/pem.ts';
import { type Service, service } from '../../client/support.ts';
import { eventually } from '../support/bundle.ts';
import { chainPem, FakeAuthority, newKey, seconds } from '../support/fake-authority.ts';
import { dial, emptied, files, heard, listening, plainServer, proxied, shown } from './support.ts';
import { limitMs } from '../../support/limits.ts';

const run = promisify(execFile);
const web = 'spiffe://example.org/web';
const gateway = 'spiffe://example.org/gateway';

/** `web` behind a proxy that lets `gateway` in, unless `settings` say otherwise. */
async function wayIn(settings: Record<string, unknown> = {}, serve?: Parameters<typeof plainServer>[0]) {
  const authority = new FakeAuthority();
  const [server, client] = [await service(authority, 'web', [gateway]), await service(authority, 'gateway')];
  const plain = await plainServer(serve);
  const proxy = await proxied(server, { to: `127.0.0.1:${plain.port}`, ...settings });
  return { authority, server, client, plain, ...proxy };
}

/** Node sees the end of a client's handshake before the server has refused it. */
const refused = /ECONNRESET|EPIPE|end|ALERT/;

describe('a way in', () => {
  test('lets curl reach a plain web server', async () => {
    const { client, server } = await wayIn();
    const web = createServer((request, response) => response.end(`${request.method} ${request.url}`));
    const { port } = await proxied(server, { to: `127.0.0.1:${await listening(web)}` });
    const { cert, key, ca } = files(client);
    const args = [
      '-sS',
      '--cert',
      cert,
      '--key',
      key,
      '--cacert',
      ca,
      '-k',
      `https://127.0.0.1:${port}/hello`,
    ];
    expect((await run('curl', args)).stdout).toBe('GET /hello');
  });

  test('passes on an end each way, and what is said after it', async () => {
    const { client, port, plain } = await wayIn({}, (socket) => {
      let said = '';
      socket.on('data', (chunk) => {
        said += chunk.toString();
      });
      socket.on('end', () => socket.end(`you said ${said}`));
    });
    const caller = dial(port, shown(client));
    caller.socket.end('all of it');
    expect(await caller.over).toBe('end');
    expect(caller.text()).toBe('you said all of it');
    expect(await eventually(() => plain.taken[0]?.closed || undefined)).toBe(true);
  });

  test('carries as many bytes as there are, unchanged', async () => {
    const { client, port } = await wayIn();
    const bytes = randomBytes(20_000_000);
    const caller = dial(port, shown(client));
    caller.socket.end(bytes);
    const came: Buffer[] = [];
    caller.socket.on('data', (chunk: Buffer) => void came.push(chunk));
    expect(await caller.over).toBe('end');
    expect(Buffer.concat(came).equals(bytes)).toBe(true);
  });

  test('agrees on a protocol where it is told one', async () => {
    const { client, port } = await wayIn({ alpn: ['h2'] });
    const caller = dial(port, { ...shown(client), ALPNProtocols: ['h2', 'http/1.1'] });
    await new Promise((resolve) => void caller.socket.once('secureConnect', resolve));
    expect(caller.socket.alpnProtocol).toBe('h2');
  });

  test('is over TLS 1.3 alone, and no session is taken up again', async () => {
    const { client, port, server } = await wayIn();
    const { cert, key, ca } = files(client);
    const args = `-connect 127.0.0.1:${port} -cert ${cert} -cert_chain ${cert} -key ${key} -CAfile ${ca}`;
    const session = async (more: string) => {
      const line = `(echo hello; sleep 1) | timeout 5 openssl s_client ${args} ${more} 2>&1 || true`;
      return (await run('sh', ['-c', line])).stdout;
    };
    const saved = join(server.dir, 'session');
    const first = await session(`-sess_out ${saved}`);
    expect(first).toContain('New, TLSv1.3');
    expect(first).toContain('Verify return code: 0 (ok)');
    expect(first).toContain('hello');
    expect(await session(`-sess_in ${saved}`)).toContain('New, TLSv1.3');
    expect(await session('-tls1_2')).toContain('alert protocol version');
  });
});

/** What a caller shows whose certificate has these URIs, and the allowed name as a DNS name. */
async function named(client: Service, ...uris: string[]): Promise<ConnectionOptions> {
  await client.rotate({ uris, dnsNames: ['gateway'] });
  return shown(client);
}

describe('nobody else gets a byte through:', () => {
  const hour = 3600;
  const cases: Record<string, (parts: Awaited<ReturnType<typeof wayIn>>) => Promise<ConnectionOptions>> = {
    'without a certificate': async ({ client }) => ({ ...shown(client), cert: undefined, key: undefined }),
    'with a name that is not allowed': async ({ authority }) => shown(await service(authority, 'other')),
    'with a revoked certificate': async ({ authority, client, server }) => {
      authority.revoke(client.serial());
      await server.rotate();
      return shown(client);
    },
    'with an expired certificate': async ({ client }) => {
      await client.rotate({
        notBeforeSeconds: seconds(Date.now()) - 2 * hour,
        notAfterSeconds: seconds(Date.now()) - hour,
      });
      return shown(client);
    },
    'with two URI names': async ({ client }) => {
      await client.rotate({ uris: [gateway, 'spiffe://example.org/other'] });
      return shown(client);
    },
    'with a name that only begins like an allowed one': ({ client }) => named(client, `${gateway}2`),
    'with a name below an allowed one': ({ client }) => named(client, `${gateway}/a`),
    'with a name of another trust domain': ({ client }) => named(client, 'spiffe://example.org.evil/gateway'),
    'with an allowed name that is not in its URI': ({ client }) => named(client),
    'with a certificate of a certificate': async ({ client, authority }) => {
      const { key, cert } = shown(client);
      const [der = Buffer.alloc(0)] = decodePem(String(cert), 'CERTIFICATE');
      const { subjectName: name, subjectKeyId: keyId = '', spki } = parseCertificate(der);
      const above = { name, keyId, spki, der, key: createPrivateKey(key as string) };
      const below = newKey();
      const leaf = authority.issue(below.spki, { uris: [gateway] }, above);
      return { ...shown(client), cert: chainPem(leaf, der, authority.issuer.der), key: below.pem };
    },
    'with the certificate of the CA': async ({ client, authority }) => {
      const key = authority.issuer.key.export({ type: 'pkcs8', format: 'pem' });
      return { ...shown(client), cert: chainPem(authority.issuer.der), key };
    },
    'with a revoked issuer': async ({ client, server, authority }) => {
      authority.revoke(parseCertificate(authority.issuer.der).serial, 'cACompromise');
      await server.rotate();
      return shown(client);
    },
    'with a certificate of its own making': async ({ client }) => {
      const stranger = new FakeAuthority();
      const key = newKey();
      const cert = chainPem(
        stranger.issue(key.spki, { uris: [gateway] }),
        stranger.issuer.der,
        stranger.root.der,
      );
      return { ...shown(client), cert, key: key.pem };
    },
    "with the CA's name and another key": async ({ client, authority }) => {
      const key = newKey();
      const forged = { ...authority.issuer, key: newKey().key };
      const cert = chainPem(authority.issue(key.spki, { uris: [gateway] }, forged), authority.issuer.der);
      return { ...shown(client), cert, key: key.pem };
    },
  };
  for (const [who, optionsOf] of Object.entries(cases))
    test(`a caller: ${who}`, async () => {
      const parts = await wayIn();
      const options = await optionsOf(parts);
      const caller = dial(parts.port, options);
      caller.socket.write('are you there?');
      expect(await caller.over).toMatch(refused);
      expect(caller.text()).toBe('');
      expect(
        await eventually(() => parts.notices.find((line) => line.includes('refused 127.0.0.1'))),
      ).toBeDefined();
      expect(parts.plain.taken).toHaveLength(0);
      expect(parts.proxy.counts).toMatchObject({ passed: 0, open: 0 });
    });

  test('past the end of the CRL', async () => {
    const { server, authority, client, port, notices, plain } = await wayIn();
    const ended = { thisUpdateSeconds: seconds(Date.now()) - 60, nextUpdateSeconds: seconds(Date.now()) - 1 };
    await server.rotate({}, [authority.crl(authority.issuer, ended), authority.crl(authority.root)]);
    authority.crlNumber += 1n;
    server.publish([authority.crl(authority.issuer, ended), authority.crl(authority.root)]);
    await eventually(() => undefined, 1200);
    expect(await dial(port, shown(client)).over).toMatch(refused);
    expect(notices.join()).toContain('policy-not-fresh');
    expect(plain.taken).toHaveLength(0);
  });

  test('with an entry that lets nobody call', async () => {
    const authority = new FakeAuthority();
    const [server, client] = [await service(authority, 'web', []), await service(authority, 'gateway')];
    const { port } = await proxied(server, { to: `127.0.0.1:${(await plainServer()).port}` });
    expect(await dial(port, shown(client)).over).toMatch(refused);
  });
});

describe('an open connection', () => {
  /** A caller who has been answered. */
  async function open(settings: Record<string, unknown> = {}) {
    const parts = await wayIn(settings);
    const caller = dial(parts.port, shown(parts.client));
    caller.socket.write('hello');
    expect(await eventually(() => (caller.text() === 'hello' ? true : undefined))).toBe(true);
    const service = heard(parts.plain.taken[0]!);
    return { ...parts, caller, service };
  }

  test('of a revoked peer is cut within a second, and looks whole to neither side', async () => {
    const { authority, client, server, caller, service } = await open();
    authority.revoke(client.serial());
    const from = performance.now();
    server.publish();
    expect(await caller.over).toBe('ECONNRESET');
    expect(performance.now() - from).toBeLessThan(limitMs(1000));
    expect(await service.over).toBe('ECONNRESET');
  });

  test('goes on through rotations of both sides', async () => {
    const { client, server, caller } = await open();
    await server.rotate();
    await client.rotate();
    await eventually(() => undefined, 300);
    caller.socket.write(' again');
    expect(await eventually(() => (caller.text() === 'hello again' ? true : undefined))).toBe(true);
  });

  test('ends with the certificate of its peer', async () => {
    const { clock, server, caller, notices } = await open();
    await server.rotate({ notAfterSeconds: seconds(Date.now()) + 10 * 3600 });
    clock.ahead = 66 * 60_000;
    expect(await caller.over).toBe('ECONNRESET');
    expect(notices.join()).toContain(`cut ${gateway}`);
  });

  test('ends with our own that it was made with', async () => {
    const authority = new FakeAuthority();
    const [server, client] = [
      await service(authority, 'web', [gateway]),
      await service(authority, 'gateway'),
    ];
    await client.rotate({ notAfterSeconds: seconds(Date.now()) + 10 * 3600 });
    const { port, clock } = await proxied(server, { to: `127.0.0.1:${(await plainServer()).port}` });
    const caller = dial(port, shown(client));
    caller.socket.write('hello');
    await eventually(() => (caller.text() === 'hello' ? true : undefined));
    clock.ahead = 64 * 60_000;
    await eventually(() => undefined, 1200);
    expect(caller.socket.destroyed, 'clocks may differ by five minutes').toBe(false);
    clock.ahead = 66 * 60_000;
    expect(await caller.over).toBe('ECONNRESET');
  });

  test('is cut where there is no certificate of our own any more', async () => {
    const authority = new FakeAuthority();
    const [server, client] = [
      await service(authority, 'web', [gateway]),
      await service(authority, 'gateway'),
    ];
    const { port, proxy } = await proxied(server, { to: `127.0.0.1:${(await plainServer()).port}` });
    const caller = dial(port, shown(client));
    caller.socket.write('hello');
    await eventually(() => (caller.text() === 'hello' ? true : undefined));
    proxy.take(undefined);
    expect(await caller.over).toBe('ECONNRESET');
  });

  test('that breaks off on one side breaks off on the other', async () => {
    const { caller, service, proxy } = await open();
    caller.socket.destroy();
    // Without TLS's own end this is all that TCP tells of it.
    expect(await service.over).toMatch(/end|ECONNRESET/);
    const second = await open();
    second.plain.taken[0]?.resetAndDestroy();
    expect(await second.caller.over).toBe('ECONNRESET');
    expect(await emptied(proxy)).toBe(true);
  });
});

test('a local service that is down: a clean end for the caller, one line for a thousand of them', async () => {
  const { client, server } = await wayIn();
  const { port, notices, proxy } = await proxied(server, { to: '127.0.0.1:1' });
  for (let at = 0; at < 20; at += 1) expect(await dial(port, shown(client)).over).toBe('end');
  expect(notices.filter((line) => line.includes('cannot reach'))).toEqual([
    `proxy 127.0.0.1:${port}: cannot reach 127.0.0.1:1: ECONNREFUSED`,
  ]);
  expect(proxy.counts.unreachable).toBe(20);
});

test('what answers and closes while it is still being spoken to has its answer passed on', async () => {
  const { client, port } = await wayIn({}, (socket) => {
    socket.once('data', () => {
      socket.end('413 too large');
      setTimeout(() => socket.destroy(), 50);
    });
  });
  const caller = dial(port, shown(client));
  const chunk = Buffer.alloc(10_000);
  const more = setInterval(() => caller.socket.write(chunk), 5);
  expect(await caller.over).toBe('end');
  clearInterval(more);
  expect(caller.text()).toBe('413 too large');
});

describe('the local service is told who calls', () => {
  /** The bytes that it sees before `hello`. */
  async function header(version: string): Promise<{ bytes: Buffer; from: number; to: number }> {
    const { client, port, plain } = await wayIn({ proxyProtocol: version }, () => undefined);
    const caller = dial(port, shown(client));
    caller.socket.write('hello');
    const taken = await eventually(() => plain.taken[0]);
    const said: Buffer[] = [];
    taken?.on('data', (chunk: Buffer) => void said.push(chunk));
    await eventually(() => (Buffer.concat(said).includes('hello') ? true : undefined));
    const bytes = Buffer.concat(said).subarray(0, -5);
    return { bytes, from: caller.socket.localPort ?? 0, to: port };
  }

  test('v1', async () => {
    const { bytes, from, to } = await header('v1');
    expect(bytes.toString()).toBe(`PROXY TCP4 127.0.0.1 127.0.0.1 ${from} ${to}\r\n`);
  });

  test('v2, with its SPIFFE ID', async () => {
    const { bytes, from, to } = await header('v2');
    expect(bytes.subarray(0, 16).toString('hex')).toBe(
      `0d0a0d0a000d0a515549540a2111${bytes.toString('hex', 14, 16)}`,
    );
    expect(bytes.readUInt16BE(14)).toBe(bytes.length - 16);
    expect([bytes.readUInt16BE(24), bytes.readUInt16BE(26)]).toEqual([from, to]);
    const tlvs = new Map<number, Buffer>();
    for (let at = 28; at < bytes.length; at += 3 + bytes.readUInt16BE(at + 1))
      tlvs.set(bytes[at]!, bytes.subarray(at + 3, at + 3 + bytes.readUInt16BE(at + 1)));
    expect(tlvs.get(0xe1)?.toString()).toBe(gateway);
    expect(tlvs.get(0x20)?.subarray(0, 5).toString('hex')).toBe('0700000000');
    expect(tlvs.get(0x20)?.subarray(8).toString()).toBe('TLSv1.3');
  });
});

test(`its own name is ${web}`, async () => {
  const { client, port } = await wayIn();
  const caller = dial(port, shown(client));
  await new Promise((resolve) => void caller.socket.once('secureConnect', resolve));
  expect(caller.socket.getPeerX509Certificate()?.subjectAltName).toBe(`URI:${web}`);
});
