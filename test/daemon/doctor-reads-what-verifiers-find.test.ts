import { createServer } from 'node:https';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { expect, it } from 'vitest';
import { bootAuthority, runVouch } from '../support/daemon.ts';
import { published } from '../support/jwt.ts';

it('doctor reads below the issuer of JWT-SVIDs, as verifiers will', async () => {
  const authority = await bootAuthority();
  const front = await authority.enroll('front', '--ip', '127.0.0.1');
  let named = '';
  const proxy = createServer(
    { cert: front.read('svid.pem'), key: front.read('svid.key') },
    (request, response) =>
      void published<object>(authority, request.url ?? '').then((document) =>
        response.end(JSON.stringify(named === '' ? document : { ...document, issuer: named })),
      ),
  ).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const issuer = `https://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  const findings = async (env = { NODE_EXTRA_CA_CERTS: front.path('bundle.pem') }): Promise<string[]> => {
    const ran = await runVouch(['doctor', '--config', authority.config, '--json'], { env });
    return ran.json<{ findings: { what: string }[] }>().findings.map(({ what }) => what);
  };
  expect(await findings()).toEqual([]);
  const { stdout } = await runVouch(['doctor', '--config', authority.config]);
  expect(stdout).toMatch(/^Nothing to mend\.\n.* to try things with: .*\nJWT-SVIDs .* https alone/);
  await authority.server.end();
  authority.configure((config) => void (config.jwt = { issuer }));
  await authority.start();
  expect(await findings()).toEqual([]);
  named = 'https://other.example';
  const document = `${issuer}/.well-known/openid-configuration`;
  expect(await findings()).toEqual([`${document} names the issuer https://other.example`]);
  proxy.close();
  proxy.closeAllConnections();
  expect(await findings()).toEqual([`${document} cannot be read`]);

  authority.configure((config) => {
    delete config.jwt;
    config.publication.url = 'http://pki.test.example';
  });
  expect(await findings()).toEqual([
    expect.stringContaining('JWT-SVIDs name http://pki.test.example as their issuer, which is not https'),
  ]);
}, 60_000);
