import { execFileSync } from 'node:child_process';
import { createPublicKey, hash, verify, X509Certificate } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { keysIn, runVouch } from '../support/daemon.ts';
import { jsonOf, type Requested, twoMachines, type TwoMachines } from '../support/two-machines.ts';

interface Item {
  what: string;
  file: string;
  notBefore: string;
  notAfter: string;
  tbsSha256: string | null;
}
interface DryRun {
  items: Item[];
  warnings: string[];
  root: { keyId: string | null };
}
interface Outcome {
  out: string;
  rootPin: string;
  rootKeyId: string;
  transcriptSha256: string;
  files: string[];
}
interface Transcript {
  operators: string[];
  signed: { kind: string; file: string; tbsSha256: string; at: string }[];
  outputs: { name: string; sha256: string }[];
  inputs: { name: string; sha256: string }[];
  root: { token: { label: string; serial: string }; ckaId: string };
}

let machines: TwoMachines;
let requested: Requested & { carried: string };
let ceremony: { file: string; out: string };
let dryRun: DryRun;
let outcome: Outcome;

beforeAll(async () => {
  machines = await twoMachines();
  requested = await machines.request('--next-issuers', '2', '--name-constraints');
  ceremony = machines.root.file({
    request: { file: requested.carried, sha256: requested.sha256 },
    issuers: { lifetime: '60d', overlap: '20d' },
  });
  const { root } = machines;
  dryRun = (await root.vouch(['ceremony', '--file', ceremony.file, '--json'])).json<DryRun>();
}, 60_000);

describe('before the ceremony', () => {
  it('the state refuses to run and says what it waits for', async () => {
    const { authority } = machines;
    const refused = await authority.refusal();
    expect(refused.code).toBe(78);
    expect(refused.problem.code).toBe('config-state');
    expect(refused.problem.detail).toContain(requested.sha256);
    expect(refused.problem.detail).toContain('--ceremony-in');
    for (const verb of [['doctor'], ['log', 'verify', '--state', authority.state]])
      expect((await authority.vouch(...verb)).problem.detail, verb[0]).toContain(requested.sha256);
    const rootToken = ['--root-hsm-file', join(machines.root.folder, 'root.json'), '--json'];
    const again = await runVouch([...authority.initWithoutRoot(), ...rootToken]);
    expect(again.problem.code, 'no other init makes a state of it').toBe('config-state');
    expect(existsSync(join(authority.state, 'pending.json'))).toBe(true);
  });

  it('the same request is written again, and no key is made for it', async () => {
    const { authority } = machines;
    const keys = keysIn(authority.folder).length;
    const file = authority.path('again.json');
    const repeat = [...authority.initWithoutRoot(), '--issuer-csr-out', file, '--json'];
    const again = (await runVouch(repeat)).json<Requested>();
    expect(again).toMatchObject({ made: false, sha256: requested.sha256 });
    expect(readFileSync(file, 'utf8')).toBe(readFileSync(requested.request, 'utf8'));
    expect(hash('sha256', readFileSync(file), 'hex')).toBe(requested.sha256);
    expect(keysIn(authority.folder).length).toBe(keys);
  });

  it('OpenSSL finds every CSR of the request signed with its own key, asking for a CA', () => {
    const { issuers } = JSON.parse(readFileSync(requested.request, 'utf8')) as { issuers: { csr: string }[] };
    expect(issuers).toHaveLength(3);
    for (const { csr } of issuers) {
      const text = execFileSync('openssl', ['req', '-verify', '-noout', '-text'], {
        input: csr,
        encoding: 'utf8',
        stdio: ['pipe', 'pipe', 'pipe'],
      });
      expect(text).toMatch(/CA:TRUE, pathlen:0/);
      expect(text).toContain('URI:spiffe://test.example');
    }
  });

  it('a dry run shows all of it, makes no key and signs nothing', () => {
    expect(dryRun.items.map(({ what }) => what)).toEqual([
      'root certificate',
      'root CRL, 0 revoked',
      'issuer certificate',
      'issuer certificate, next 1',
      'issuer certificate, next 2',
      'statement, 1 log key(s)',
    ]);
    expect(dryRun.warnings, 'nothing can be reached from there').toEqual([]);
    expect(keysIn(machines.root.folder)).toEqual([]);
    expect(existsSync(ceremony.out)).toBe(false);
  });

  it('the issuers follow one another, each begun before the last one ends', () => {
    const issuers = dryRun.items.filter(({ file }) => file.startsWith('issuer-'));
    const day = 86_400_000;
    for (const [index, { notBefore, notAfter }] of issuers.entries()) {
      const next = issuers[index + 1];
      if (next) expect(Date.parse(notAfter) - Date.parse(next.notBefore)).toBe(20 * day + 60_000 - 1000);
      expect(Date.parse(notAfter) - Date.parse(notBefore)).toBe(60 * day + 60_000 - 1000);
    }
  });

  it('--yes signs nothing that no dry run has shown', async () => {
    const { root } = machines;
    const other = root.file({ request: { file: requested.carried } });
    const refused = await root.vouch(['ceremony', '--file', other.file, '--yes', '--json']);
    expect([refused.code, refused.problem.code]).toEqual([2, 'usage-confirm']);
    (await root.vouch(['ceremony', '--file', other.file, '--json'])).json();
    writeFileSync(other.file, readFileSync(other.file, 'utf8').replace('Grace', 'Mallory'));
    const changed = await root.vouch(['ceremony', '--file', other.file, '--yes', '--json']);
    expect(changed.problem.detail).toContain('has changed since the dry run');
    expect(keysIn(root.folder)).toEqual([]);
  });
});

describe('the ceremony', () => {
  beforeAll(async () => {
    const { root } = machines;
    outcome = (await root.vouch(['ceremony', '--file', ceremony.file, '--yes', '--json'])).json<Outcome>();
  }, 30_000);

  it('announces everything on disk before the root signs it, and lists it in a transcript', () => {
    const transcript = jsonOf(outcome.out, 'transcript.json') as unknown as Transcript;
    const ahead = readFileSync(join(outcome.out, 'write-ahead.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { kind: string; tbsSha256: string });
    expect(ahead.map(({ kind }) => kind)).toEqual([
      ...transcript.signed.map(({ kind }) => kind),
      'transcript',
    ]);
    expect(ahead.slice(0, -1)).toEqual(transcript.signed);
    expect(transcript).toMatchObject({
      operators: ['Ada', 'Grace'],
      kind: 'ceremony',
      trustDomain: 'test.example',
    });
    expect(transcript.root.token).toEqual({ label: 'root', serial: machines.root.token.tokenSerial });
    expect(transcript.inputs.map(({ sha256 }) => sha256)).toContain(requested.sha256);
    for (const { name, sha256 } of transcript.outputs)
      expect(hash('sha256', readFileSync(join(outcome.out, name)), 'hex')).toBe(sha256);
  });

  it('signs the transcript with the root key itself, over exactly its bytes', () => {
    const payload = readFileSync(join(outcome.out, 'transcript.json'));
    const [header = '', middle, signature = ''] = readFileSync(join(outcome.out, 'transcript.jws'), 'utf8')
      .trim()
      .split('.');
    expect(middle).toBe('');
    expect(JSON.parse(Buffer.from(header, 'base64url').toString())).toEqual({
      alg: 'ES384',
      kid: outcome.rootKeyId,
      typ: 'vouch-transcript+jwt',
    });
    const { publicKey } = new X509Certificate(readFileSync(join(outcome.out, 'root.cer')));
    const input = Buffer.from(`${header}.${payload.toString('base64url')}`);
    const key = { key: publicKey, dsaEncoding: 'ieee-p1363' } as const;
    expect(verify('sha384', input, key, Buffer.from(signature, 'base64url'))).toBe(true);
    expect(hash('sha256', payload, 'hex')).toBe(outcome.transcriptSha256);
    const spki = createPublicKey(publicKey.export({ format: 'pem', type: 'spki' }));
    expect(`sha256:${hash('sha256', spki.export({ format: 'der', type: 'spki' }), 'hex')}`).toBe(
      outcome.rootPin,
    );
  });

  it('makes a root, a CRL and issuers that OpenSSL accepts, name constraints and CRL check included', () => {
    const pem = (name: string, kind: 'x509' | 'crl'): string => {
      const out = join(machines.root.folder, `${name}.pem`);
      execFileSync('openssl', [kind, '-inform', 'DER', '-in', join(outcome.out, name), '-out', out]);
      return out;
    };
    const root = pem('root.cer', 'x509');
    const crl = pem('root.crl', 'crl');
    for (const name of outcome.files.filter((file) => file.startsWith('issuer-'))) {
      const issuer = pem(name, 'x509');
      const args = ['verify', '-x509_strict', '-crl_check', '-CAfile', root, '-CRLfile', crl];
      const at = Math.floor(Date.parse(new X509Certificate(readFileSync(issuer)).validFrom) / 1000) + 3600;
      expect(execFileSync('openssl', [...args, '-attime', String(at), issuer], { encoding: 'utf8' })).toMatch(
        /OK/,
      );
      const text = execFileSync('openssl', ['x509', '-in', issuer, '-noout', '-text'], { encoding: 'utf8' });
      expect(text).toMatch(/Name Constraints: critical\s+Permitted:\s+URI:test\.example/);
    }
  });

  it('leaves nothing of the plan, and is not held twice into one folder', async () => {
    expect(readdirSync(machines.root.folder).filter((name) => name.includes('result-1'))).toEqual([
      'result-1',
    ]);
    const again = await machines.root.vouch(['ceremony', '--file', ceremony.file, '--json']);
    expect(again.problem.code).toBe('config-state');
  });

  it('does not make a second root key beside the first', async () => {
    const { root } = machines;
    const { file } = root.file({ request: { file: requested.carried } });
    const refused = await root.vouch(['ceremony', '--file', file, '--json']);
    expect(refused.problem).toMatchObject({
      code: 'config-hsm',
      detail: expect.stringContaining('root.key.use'),
    });
  });
});

describe('taking the result in', () => {
  it('asks whether the pin is the one that was printed', async () => {
    const unsure = await machines.takeIn(outcome.out);
    expect([unsure.code, unsure.problem.code]).toEqual([2, 'usage-confirm']);
    expect(unsure.problem.detail).toContain(outcome.rootPin);
    const other = await machines.takeIn(outcome.out, '--root-pin', `sha256:${'0'.repeat(64)}`);
    expect([other.code, other.problem.code]).toEqual([1, 'integrity-signature']);
  });

  it('makes the authority, whose log holds what the root signed and verifies', async () => {
    const { authority } = machines;
    const taken = (await machines.takeIn(outcome.out, '--root-pin', outcome.rootPin)).json<{
      issuerKeyId: string;
      nextIssuerKeyIds: string[];
      rootPin: string;
    }>();
    expect(taken.rootPin).toBe(outcome.rootPin);
    expect([taken.issuerKeyId, ...taken.nextIssuerKeyIds]).toEqual(requested.issuerKeyIds);
    expect(existsSync(join(authority.state, 'pending.json'))).toBe(false);
    expect(await machines.logProblems()).toEqual([]);
    const twice = await machines.takeIn(outcome.out, '--yes');
    expect(twice.problem.code, 'once').toBe('config-state');
  });

  it('an agent enrolls, under the active issuer; the next ones are prepared and published', async () => {
    const { authority } = machines;
    const { ready } = await authority.start();
    const workload = await authority.enroll('orders', '--dns', 'orders.test.example');
    expect(workload.delivery.issuerKeyId).toBe(requested.issuerKeyIds[0]);
    const { issuers } = (await authority.vouch('issuer', 'list')).json<{
      issuers: { keyId: string; state: string }[];
    }>();
    expect(issuers.map(({ keyId, state }) => [keyId, state])).toEqual(
      requested.issuerKeyIds.map((keyId, index) => [keyId, index === 0 ? 'active' : 'prepared']),
    );
    for (const keyId of requested.issuerKeyIds) {
      const served = await fetch(`${ready.publicationUrl}/ca/${keyId}.cer`);
      const der = Buffer.from(await served.arrayBuffer());
      expect(der.equals(readFileSync(join(outcome.out, `issuer-${keyId}.cer`)))).toBe(true);
    }
    const verified = await authority.vouch(
      'log',
      'verify',
      '--url',
      ready.publicationUrl,
      '--root-pin',
      outcome.rootPin,
    );
    expect(verified.json()).toMatchObject({ problems: [] });
    await authority.server.end();
    expect(await machines.logProblems()).toEqual([]);
  }, 30_000);
});
