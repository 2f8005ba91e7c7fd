// `POST /v1/svids` as it stands on the wire: hundreds in one call over TLS, each on its own, and nothing to the wrong one.
import { createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import { beforeAll, expect, it } from 'vitest';
import { assertIncluded, verifyCheckpoint } from '../../src/agent/log-proof.ts';
import { openStatement } from '../../src/log/statement.ts';
import {
  svidsAnswerMaxBytes,
  svidsAnswerSchema,
  svidsMax,
  svidsRequestMaxBytes,
} from '../../src/wire/agent.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { buildCsr } from '../../src/x509/csr.ts';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { type Answer, dial, newKey, problemIn, renewBody, send } from './client.ts';

let authority: Authority;
let url: string;
let agent: Workload;
const entryIds: string[] = [];

beforeAll(async () => {
  authority = await bootAuthority({
    configure: ({ enrollment }: { enrollment: Record<string, unknown> }) =>
      Object.assign(enrollment, { failuresPerMinute: 3, svidsAtOnce: 10_000 }),
  });
  url = authority.server.ready.enrollmentUrl;
  agent = await authority.enroll('agent');
  for (const name of ['web', 'db', 'queue', 'cache']) entryIds.push(await entry(name));
});

async function entry(name: string, parent = 'agent', ...flags: readonly string[]): Promise<string> {
  const where = ['--id', authority.id(name), '--parent', authority.id(parent), '--selector', 'unix:uid:1000'];
  const made = await authority.vouch('entry', 'create', ...where, '--dns', `${name}.test.example`, ...flags);
  return made.json<{ entryId: string }>().entryId;
}

interface Item {
  entryId: string;
  csr: string;
  predecessor?: string;
}

const item = (entryId: string, key: KeyObject = newKey()): Item => {
  return { entryId, csr: buildCsr(key).toString('base64') };
};

/** Asks over a connection on which this certificate was shown. */
async function ask(shown: Pick<Workload, 'read'>, body: unknown): Promise<Answer> {
  const socket = await dial(url, { cert: shown.read('svid.pem'), key: shown.read('svid.key') });
  const headers = { 'content-type': 'application/json' };
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return send(socket, { path: '/v1/svids', body: text, headers });
}

function read(answer: Answer) {
  expect(answer.status, answer.text.slice(0, 500)).toBe(200);
  return svidsAnswerSchema.parse(JSON.parse(answer.text));
}

it('five hundred and more, in less time than a twentieth of as many enrollments, each in the log', async () => {
  const rounds = Array.from({ length: 3 }, () =>
    Array.from({ length: svidsMax }, (_, index) => item(entryIds[index % 4] ?? '')),
  );
  const tokens = await Promise.all(Array.from({ length: 3 }, (_, index) => authority.join(`alone-${index}`)));
  const single = [];
  for (const { path } of tokens) {
    const startedMs = performance.now();
    (await authority.vouch('enroll', '--join-file', path, '--out', authority.path('w'))).json();
    single.push(performance.now() - startedMs);
  }
  const calls: Answer[] = [];
  for (const requests of rounds) calls.push(await ask(agent, { requests }));
  const [fastest] = calls.toSorted((a, b) => a.ms - b.ms);
  if (!fastest) throw new Error('three calls were made');
  const ratio = fastest.ms / Math.min(...single);
  console.info(
    `${svidsMax} in ${Math.round(fastest.ms)} ms, as long as ${ratio.toFixed(1)} runs of vouch enroll`,
  );
  expect(ratio).toBeLessThan(svidsMax / 20);
  expect(fastest.text.length).toBeLessThan(svidsAnswerMaxBytes);

  const { results, authorities, bundle, consistency } = read(fastest);
  expect(consistency).toBeUndefined();
  const rootDer = Object.values(authorities)[0]?.at(-1) ?? Buffer.alloc(0);
  const statement = openStatement(
    bundle.vouch_statement,
    createPublicKey(new X509Certificate(rootDer).publicKey.export({ type: 'spki', format: 'pem' })),
  );
  const serials = new Set<string>();
  for (const [index, result] of results.entries()) {
    expect(result.entryId).toBe(entryIds[index % 4]);
    if ('problem' in result) throw new Error(JSON.stringify(result.problem));
    const [issuerDer] = authorities[result.issuerKeyId] ?? [];
    const leaf = parseCertificate(result.certificate);
    const seen = {
      statement: 0,
      bundle: 0,
      treeSize: 0,
      crlNumbers: new Map<string, bigint>(),
      head: undefined,
    };
    const checkpoint = verifyCheckpoint(result.proof.checkpoint, undefined, { statement, seen });
    assertIncluded(result.proof, checkpoint, {
      leaf,
      issuer: parseCertificate(issuerDer ?? Buffer.alloc(0)),
    });
    expect(
      new X509Certificate(result.certificate).verify(new X509Certificate(issuerDer ?? '').publicKey),
    ).toBe(true);
    serials.add(leaf.serial);
  }
  expect(serials.size).toBe(svidsMax);
  expect(new Set(results.map((one) => 'proof' in one && one.proof.checkpoint)).size).toBe(1);
});

it('what is bad in one leaves the others alone', async () => {
  await authority.enroll('other-agent');
  const foreign = await entry('foreign', 'other-agent');
  const wanted = {
    ...item(''),
    csr: buildCsr(newKey(), { dnsNames: ['db.test.example'] }).toString('base64'),
  };
  const [web = '', db = ''] = entryIds;
  const requests = [
    item(web),
    item(foreign),
    { ...wanted, entryId: web },
    { entryId: web, csr: '???' },
    item(db),
  ];
  const { results } = read(await ask(agent, { requests }));
  expect(results.map((one) => ('problem' in one ? one.problem.code : 'issued'))).toEqual([
    ...['issued', 'denied-no-entry', 'policy-names', 'request-csr', 'issued'],
  ]);
  expect(results.map(({ entryId }) => entryId)).toEqual([web, foreign, web, web, db]);
});

it('what it got is not renewed by its workload, and gets nobody anything', async () => {
  const key = newKey();
  const { results } = read(await ask(agent, { requests: [item(entryIds[0] ?? '', key)] }));
  const [result] = results;
  if (!result || 'problem' in result) throw new Error('it is issued');
  const leaf = new X509Certificate(result.certificate);
  const chain = agent
    .read('svid.pem')
    .split(/(?<=-----END CERTIFICATE-----\n)/)
    .slice(1)
    .join('');
  const shown = {
    cert: leaf.toString() + chain,
    key: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
  const socket = await dial(url, shown);
  const body = JSON.stringify(renewBody(socket, leaf));
  const headers = { 'content-type': 'application/json' };
  const renewed = await send(socket, { path: '/v1/renew', body, headers });
  expect(problemIn(renewed)).toMatchObject({ status: 401, code: 'denied-certificate' });
  const asked = await send(await dial(url, shown), {
    ...{ path: '/v1/svids', headers, body: JSON.stringify({ requests: [item(entryIds[0] ?? '')] }) },
  });
  expect(problemIn(asked)).toMatchObject({ status: 401, code: 'denied-certificate' });
});

it('a body of its own size, and no other', async () => {
  const web = entryIds[0] ?? '';
  const many = Array.from({ length: svidsMax + 1 }, () => item(web));
  const fresh = await authority.enroll('agent');
  expect(problemIn(await ask(fresh, { requests: many }))).toMatchObject({
    status: 400,
    code: 'request-malformed',
  });
  const large = { requests: [{ ...item(web), csr: 'A'.repeat(svidsRequestMaxBytes) }] };
  expect(problemIn(await ask(fresh, large))).toMatchObject({ status: 413, code: 'request-too-large' });
});

it("an agent's failures count against it, a call as one", async () => {
  const noisy = await authority.enroll('noisy');
  const requests = [item('e_none'), item('e_none')];
  for (let call = 0; call < 3; call += 1) expect((await ask(noisy, { requests })).status).toBe(200);
  expect(problemIn(await ask(noisy, { requests }))).toMatchObject({
    status: 429,
    code: 'unavailable-rate-limited',
  });
});

it('revoked, it gets nothing more, and what it got is ended; an audit finds all as it is', async () => {
  const host = await authority.enroll('host');
  const entryId = await entry('on-host', 'host');
  const { results } = read(await ask(host, { requests: [item(entryId), item(entryId)] }));
  const serials = results.map((one) => 'certificate' in one && parseCertificate(one.certificate).serial);
  const ended = (
    await authority.vouch('revoke', '--agent', authority.id('host'), '--reason', 'keyCompromise', '--yes')
  ).json<{ revoked: { serial: string }[] }>();
  expect(new Set(ended.revoked.map(({ serial }) => serial))).toEqual(new Set([...serials, host.serial]));
  expect(problemIn(await ask(host, { requests: [item(entryId)] }))).toMatchObject({ code: 'denied-revoked' });
  const verified = await authority.vouch('log', 'verify', '--state', authority.state);
  expect(verified.json()).toMatchObject({ problems: [] });
});
