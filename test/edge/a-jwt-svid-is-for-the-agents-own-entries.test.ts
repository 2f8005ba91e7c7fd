import { decodeJwt, decodeProtectedHeader } from 'jose';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { askJwtSvid, createEntry, jwtSvid } from '../support/jwt.ts';
import { dial, problemIn, send } from './client.ts';

let authority: Authority;
let agent: Workload;
let web: string;
const audience = ['payments', 'reports'];

beforeAll(async () => {
  authority = await bootAuthority({
    configure: (config) => {
      Object.assign(config.enrollment, { failuresPerMinute: 10_000 });
      config.jwt = { issuer: 'https://oidc.test.example', lifetime: '2m' };
    },
  });
  agent = await authority.enroll('agent');
  web = await createEntry(authority, 'web', 'agent');
}, 60_000);

const refused = async (asking: ReturnType<typeof askJwtSvid>) => {
  const { status, code } = problemIn(await asking);
  return { status, code };
};

it('says who, for whom and until when; the log says who asked', async () => {
  const answer = await askJwtSvid(authority, agent, { entryId: web, audience });
  expect(answer.status).toBe(200);
  const { token, ...rest } = JSON.parse(answer.text) as { token: string; expiresAt: string };
  const claims = decodeJwt(token);
  const exp = claims.exp ?? 0;
  expect(rest).toEqual({
    spiffeId: authority.id('web'),
    expiresAt: new Date(exp * 1000).toISOString().replace('.000', ''),
  });
  expect(claims).toEqual({
    ...{ iss: 'https://oidc.test.example', sub: authority.id('web'), aud: audience, exp, iat: exp - 120 },
    jti: expect.stringMatching(/^[\w-]{22}$/) as string,
  });
  const kid = expect.stringMatching(/^[0-9a-f]{40}$/) as string;
  expect(decodeProtectedHeader(token)).toEqual({ alg: 'ES256', typ: 'JWT', kid });
  const line = await authority.server.until((server) =>
    server.log().find(({ msg }) => msg === 'JWT-SVID signed'),
  );
  expect(line).toMatchObject({
    ...{ agent: authority.id('agent'), agentSerial: agent.serial, entryId: web, audience },
    ...{ spiffeId: authority.id('web'), tokenId: claims.jti },
  });
  expect(authority.server.stderr).not.toContain(token.split('.')[2]);
  const metrics = await fetch(`${authority.server.ready.operationsUrl}/metrics`);
  expect(await metrics.text()).toMatch(/^vouch_jwt_svids_total [1-9]/m);
});

describe('it is refused', () => {
  it('without a certificate', async () => {
    const asking = askJwtSvid(authority, undefined, { entryId: web, audience });
    expect(await refused(asking)).toEqual({ status: 401, code: 'denied-certificate' });
  });

  it('to another agent, to the workload itself, and for an entry that there is not', async () => {
    const other = await authority.enroll('other-agent');
    const itself = await authority.enroll('web');
    const none = 'e_0123456789abcdef';
    const answers = [
      await askJwtSvid(authority, other, { entryId: web, audience }),
      await askJwtSvid(authority, itself, { entryId: web, audience }),
      await askJwtSvid(authority, agent, { entryId: none, audience }),
    ].map(problemIn);
    for (const { status, code, detail } of answers)
      expect({ status, code, detail }).toEqual({
        ...{ status: 403, code: 'denied-no-entry' },
        detail: 'no registration entry of this agent has that id',
      });
  });

  it("for the agent's own entry", async () => {
    const { entries } = (await authority.vouch('entry', 'list')).json<{
      entries: { entryId: string; spiffeId: string }[];
    }>();
    const own = entries.find(({ spiffeId }) => spiffeId === authority.id('agent'))?.entryId;
    const asking = askJwtSvid(authority, agent, { entryId: own, audience });
    expect(await refused(asking)).toEqual({ status: 403, code: 'denied-no-entry' });
  });

  it('for an entry that was deleted, and for one that is suspended, until it is resumed', async () => {
    const gone = await createEntry(authority, 'gone', 'agent');
    await jwtSvid(authority, agent, gone, 'payments');
    (await authority.vouch('entry', 'delete', gone, '--yes')).json();
    expect(await refused(askJwtSvid(authority, agent, { entryId: gone, audience }))).toMatchObject({
      code: 'denied-no-entry',
    });
    const held = await createEntry(authority, 'held', 'agent');
    (await authority.vouch('revoke', '--entry', held, '--reason', 'superseded', '--yes')).json();
    expect(await refused(askJwtSvid(authority, agent, { entryId: held, audience }))).toEqual({
      ...{ status: 403, code: 'denied-suspended' },
    });
    (await authority.vouch('entry', 'resume', held)).json();
    await jwtSvid(authority, agent, held, 'payments');
  });

  it('to an agent that is revoked', async () => {
    const ended = await authority.enroll('ended');
    const entryId = await createEntry(authority, 'shop', 'ended');
    await jwtSvid(authority, ended, entryId, 'payments');
    (await authority.vouch('revoke', '--serial', ended.serial, '--reason', 'keyCompromise')).json();
    expect(await refused(askJwtSvid(authority, ended, { entryId, audience }))).toEqual({
      ...{ status: 403, code: 'denied-revoked' },
    });
  });

  it.each<[string, object]>([
    ['for nobody', { audience: [] }],
    ['for nine', { audience: Array.from({ length: 9 }, () => 'a') }],
    ['for an empty audience', { audience: [''] }],
    ['for an audience of 1025 bytes', { audience: ['é'.repeat(513)] }],
    ['for half a surrogate pair, which would be signed as something else', { audience: ['a\ud800'] }],
    ['for a line end', { audience: ['a\n'] }],
    ['for an audience that is no list', { audience: 'payments' }],
    ['with claims of its own', { sub: 'spiffe://test.example/admin' }],
    ['with a lifetime of its own', { lifetime: 86_400 }],
    ['for no entry', { entryId: undefined }],
  ])('%s', async (_how, change) => {
    const asking = askJwtSvid(authority, agent, { entryId: web, audience, ...change });
    expect(await refused(asking)).toEqual({ status: 400, code: 'request-malformed' });
  });

  it('by GET', async () => {
    const socket = await dial(authority.server.ready.enrollmentUrl);
    const answer = await send(socket, { method: 'GET', path: '/v1/jwt-svids' });
    expect(problemIn(answer)).toMatchObject({ status: 405, code: 'request-method' });
    expect(answer.headers.allow).toBe('POST');
  });
});
