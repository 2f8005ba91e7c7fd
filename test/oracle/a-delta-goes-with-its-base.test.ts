import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Reason } from '../../src/core/reasons.ts';
import { type CrlTemplate, encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { freshSerial } from '../x509/authority.ts';
import { CurrentAuthority } from '../x509/oracle-tools.ts';
import { nginx } from './nginx-judge.ts';
import { ask, everyone, leafOf, openSsl, question, type Verdict, Verifiers } from './verifiers.ts';

/** What was asked for over HTTP. */
const fetched: string[] = [];
let delivered: Buffer | undefined;
const server = createServer(({ url = '' }, response) => {
  fetched.push(url);
  response.writeHead(url === '/delta.crl' ? 200 : 404).end(url === '/delta.crl' ? delivered : undefined);
});

let verifiers: Verifiers;
let authority: CurrentAuthority;
let url: string;
beforeAll(async () => {
  verifiers = await Verifiers.start();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  authority = new CurrentAuthority(undefined, undefined, { crlUrls: [`${url}/root.crl`] });
}, 180_000);
afterAll(() => {
  verifiers.end();
  server.close();
});

const serial = freshSerial();
const withDeltas = openSsl('-extended_crl', '-use_deltas');

function made(change: Partial<CrlTemplate>, reason?: Reason): Buffer {
  const dateSeconds = authority.nowSeconds - 70;
  return authority.crl({
    ...change,
    revoked: reason ? [encodeRevoked({ serial, dateSeconds, reason })] : [],
  });
}

/** The full CRL with number 100, as it is published. */
function base(reason?: Reason, change: Partial<CrlTemplate> = {}): Buffer {
  return made({ crlNumber: 100n, freshestUrl: `${url}/delta.crl`, ...change }, reason);
}

/** What came since: number 101 for base 100 unless changed. */
function delta(reason?: Reason, change: Partial<CrlTemplate> = {}): Buffer {
  const thisUpdateSeconds = authority.nowSeconds - 30;
  return made({ crlNumber: 101n, deltaBase: 100n, thisUpdateSeconds, ...change }, reason);
}

/** What is asked about the leaf, by these CRLs. */
function about(...crls: readonly Buffer[]): ReturnType<typeof question> {
  return question(authority, leafOf(authority, { serial, crlUrls: [`${url}/3.crl`] }), crls);
}

describe('OpenSSL (-extended_crl -use_deltas), which has both in files of their own,', () => {
  it.each<[string, Reason | undefined, Reason | undefined, Verdict]>([
    ['lets pass what neither lists', undefined, undefined, 'good'],
    ['refuses what the delta alone lists', undefined, 'keyCompromise', 'revoked'],
    ['refuses what the base alone lists', 'keyCompromise', undefined, 'revoked'],
    ['refuses what the delta has on hold', undefined, 'certificateHold', 'revoked'],
    ['lets pass what the delta releases', 'certificateHold', 'removeFromCRL', 'good'],
    ['refuses what got a worse reason on the delta', 'superseded', 'keyCompromise', 'revoked'],
  ])('%s', async (_name, onBase, onDelta, verdict) => {
    const [full, recent] = [base(onBase), delta(onDelta)];
    expect(await ask(withDeltas, about(full, recent))).toBe(verdict);
    expect(await ask(withDeltas, about(recent, full))).toBe(verdict);
  });

  it.each<[string, Partial<CrlTemplate>, Partial<CrlTemplate>, Verdict]>([
    ['for an earlier base, as a full CRL made since goes with it', {}, { deltaBase: 99n }, 'revoked'],
    ['for a later base than it has: nothing is said', {}, { deltaBase: 101n, crlNumber: 102n }, 'good'],
    ['not above the full CRL, which holds all of it', {}, { crlNumber: 100n }, 'good'],
    ['before the full CRL', {}, { deltaBase: 98n, crlNumber: 99n }, 'good'],
    ['that the full CRL does not point to', { freshestUrl: undefined }, {}, 'good'],
  ])('takes or leaves a delta %s', async (_name, ofBase, ofDelta, verdict) => {
    const [full, recent] = [base(undefined, ofBase), delta('keyCompromise', ofDelta)];
    expect(await ask(withDeltas, about(full, recent))).toBe(verdict);
  });

  it('does not do with a delta alone', async () => {
    expect(await ask(withDeltas, about(delta()))).toMatch(/unable to get certificate CRL/);
  });
});

describe('of those who are not asked to use deltas', () => {
  const knowsNone = expect.stringMatching(/unknown critical extension/) as unknown;

  it('OpenSSL, nginx and GnuTLS let the revoked pass where base and delta are in one file', async () => {
    const both = about(base('keyCompromise'), delta());
    const passes = { OpenSSL: 'good', GnuTLS: 'good', NSS: knowsNone };
    expect(await verifiers.all(both)).toEqual(everyone('revoked', passes));
    expect(await ask(nginx, both)).toBe('good');
    expect(await ask(nginx, about(base('keyCompromise')))).toBe('revoked');
    expect(await ask(nginx, about(base()))).toBe('good');
  });

  it('GnuTLS takes a release for a revocation; Node, Java and Go go by the base', async () => {
    const others = { OpenSSL: 'good', GnuTLS: 'revoked', NSS: knowsNone };
    expect(await verifiers.all(about(base('certificateHold'), delta('removeFromCRL')))).toEqual(
      everyone('revoked', others),
    );
  });

  it('OpenSSL and GnuTLS take a delta alone for all there is; the others do not have it', async () => {
    const unusable = expect.not.stringMatching(/^(good|revoked)/) as unknown;
    const alone = (verdict: Verdict) => everyone(unusable, { OpenSSL: verdict, GnuTLS: verdict });
    expect(await verifiers.all(about(delta()))).toEqual(alone('good'));
    expect(await verifiers.all(about(delta('keyCompromise')))).toEqual(alone('revoked'));
  });

  it('Java does not follow the URL of the delta in a full CRL', async () => {
    delivered = delta('keyCompromise');
    expect(await ask(verifiers.judges.Java, about(base()))).toBe('good');
    expect(fetched).not.toContain('/delta.crl');
  });
});
