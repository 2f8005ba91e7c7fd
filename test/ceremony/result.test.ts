import { describe, expect, it } from 'vitest';
import type { Artefact } from '../../src/ceremony/artefacts.ts';
import { parseRequest } from '../../src/ceremony/request.ts';
import { type RenewedState, verifyFirstResult, verifyRenewal } from '../../src/ceremony/result.ts';
import { rfc3339 } from '../../src/core/clock.ts';
import type { Serial } from '../../src/core/serial.ts';
import { parseTrustDomain } from '../../src/core/spiffe-id.ts';
import type { Statement } from '../../src/log/statement.ts';
import { encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { rdnName } from '../../src/x509/name.ts';
import {
  type Astray,
  crlArtefact,
  softwareCeremony,
  softwareKey,
  softwareRenewal,
  softwareRequest,
  softwareResult,
  SoftwareRoot,
} from './software-ceremony.ts';

const nowMs = Date.parse('2026-06-01T12:00:00Z');

/** Refused as the result of the request, whatever the root signed. */
function refusal(astray: Astray): string {
  const { request, files } = softwareCeremony(nowMs, astray);
  try {
    verifyFirstResult(files, { request, nowMs });
  } catch (error) {
    return error instanceof Error ? error.message : '';
  }
  return 'taken';
}

function changing<Kind extends Artefact['kind']>(
  kind: Kind,
  change: (artefact: Extract<Artefact, { kind: Kind }>) => Partial<Extract<Artefact, { kind: Kind }>>,
): Astray {
  return {
    artefact: (artefact) =>
      artefact.kind === kind
        ? { ...artefact, ...change(artefact as Extract<Artefact, { kind: Kind }>) }
        : artefact,
  };
}

describe('the result of a first ceremony', () => {
  it('is taken where it is what was asked for', () => {
    const { request, files, root } = softwareCeremony(nowMs);
    const result = verifyFirstResult(files, { request, nowMs });
    expect(result.root.keyId).toBe(root.keyId);
    expect(result.issuers.map(({ keyId }) => keyId)).toEqual(request.issuers.map(({ keyId }) => keyId));
    expect(result.statement.sequence).toBe(1);
  });

  it('is refused for another request', () => {
    const { files } = softwareCeremony(nowMs);
    const other = parseRequest(softwareRequest().text);
    expect(() => verifyFirstResult(files, { request: other, nowMs })).toThrow(
      expect.objectContaining({ code: 'policy-conflict' }),
    );
  });

  it('is refused with a transcript changed by one byte, whichever', () => {
    const { request, files } = softwareCeremony(nowMs);
    const whole = files.get('transcript.json') ?? Buffer.alloc(0);
    for (let at = 0; at < whole.length; at += 37) {
      const changed = Buffer.from(whole);
      changed[at] = (changed[at] ?? 0) ^ 1;
      files.set('transcript.json', changed);
      expect(() => verifyFirstResult(files, { request, nowMs })).toThrow(
        expect.objectContaining({ code: 'integrity-signature' }),
      );
    }
  });

  it('is refused with the signature of another root over the same transcript', () => {
    const { request, files } = softwareCeremony(nowMs);
    const payload = files.get('transcript.json') ?? Buffer.alloc(0);
    files.set('transcript.jws', new SoftwareRoot().sign({ kind: 'transcript', payload }).signed);
    expect(() => verifyFirstResult(files, { request, nowMs })).toThrow(/not signed by this root/);
  });

  it('is refused where a file is missing or another one', () => {
    const count = softwareCeremony(nowMs).files.size;
    for (let index = 0; index < count; index++) {
      const { request, files } = softwareCeremony(nowMs);
      const name = [...files.keys()][index] ?? '';
      files.delete(name);
      expect(() => verifyFirstResult(files, { request, nowMs }), name).toThrow(/has no file/);
    }
    const { request, files } = softwareCeremony(nowMs);
    const [first, second] = request.issuers.map(({ keyId }) => `issuer-${keyId}.cer`);
    files.set(first ?? '', files.get(second ?? '') ?? Buffer.alloc(0));
    expect(() => verifyFirstResult(files, { request, nowMs })).toThrow(
      /is not the file that the ceremony wrote/,
    );
  });

  it('is refused where the root was brought to sign something else than was asked for', () => {
    const stranger = softwareKey('ed25519').spki;
    const wrong: Record<string, [Astray, RegExp]> = {
      'another key': [
        changing('issuer-certificate', () => ({ spki: softwareKey().spki })),
        /says something else/,
      ],
      'another publication': [
        changing('issuer-certificate', () => ({ publicationUrl: 'http://evil.example' })),
        /says something else/,
      ],
      'no name constraints': [
        changing('issuer-certificate', () => ({ nameConstraints: undefined })),
        /says something else/,
      ],
      'another log key': [
        changing('statement', ({ statement }) => ({
          statement: {
            ...statement,
            logKeys: statement.logKeys.map((one) => ({ ...one, publicKeySpki: stranger })),
          },
        })),
        /other log keys/,
      ],
      'another log': [
        changing('statement', ({ statement }) => ({
          statement: { ...statement, logKeys: statement.logKeys.map((one) => ({ ...one, name: 'x/y' })) },
        })),
        /other log keys/,
      ],
      'another publication in the statement': [
        changing('statement', ({ statement }) => ({
          statement: { ...statement, publicationUrls: ['http://evil.example'] },
        })),
        /does not name/,
      ],
      'a statement for others': [
        changing('statement', ({ statement }) => ({
          statement: { ...statement, trustDomain: parseTrustDomain('evil.example') },
        })),
        /it is of the trust domain evil\.example/,
      ],
      'a transcript for others': [
        { transcript: (one) => ({ ...one, trustDomain: 'evil.example' }) },
        /it is of the trust domain/,
      ],
      'a statement without sequence': [
        changing('statement', ({ statement }) => ({ statement: { ...statement, sequence: 0 } })),
        /no sequence/,
      ],
      'a statement that has ended': [
        changing('statement', ({ statement }) => ({ statement: { ...statement, notAfterMs: nowMs - 1000 } })),
        /has ended/,
      ],
      'an issuer of tomorrow': [
        changing('issuer-certificate', ({ validity }) => ({
          validity: { ...validity, notBeforeSeconds: nowMs / 1000 + 86_400 },
        })),
        /of the future/,
      ],
      'a CRL that has ended': [
        changing('root-crl', () => ({
          nextUpdateSeconds: nowMs / 1000 - 1,
          thisUpdateSeconds: nowMs / 1000 - 9,
        })),
        /has ended/,
      ],
      'a CSR of another name': [
        changing('root-csr', () => ({ rootName: rdnName({ commonName: 'another' }) })),
        /its root-csr says something else/,
      ],
      'a CSR with a spoilt signature': [{ spoilt: 'root-csr' }, /CSR has a wrong signature/],
    };
    for (const [what, [astray, why]] of Object.entries(wrong)) expect(refusal(astray), what).toMatch(why);
  });

  it('is refused where the transcript hides something that the root signed, or lists what is not there', () => {
    expect(
      refusal({
        transcript: (one) => ({ ...one, signed: one.signed.filter(({ kind }) => kind !== 'root-crl') }),
      }),
    ).toMatch(/does not list this root-crl/);
    expect(
      refusal({
        transcript: (one) => ({
          ...one,
          signed: [...one.signed, ...one.signed.slice(0, 1)],
        }),
      }),
    ).toMatch(/has no place here/);
    expect(refusal({ kind: 'renewal' })).toMatch(/it is a renewal/);
    for (const root of [{ keyId: '0'.repeat(40) }, { pin: `sha256:${'0'.repeat(64)}` }])
      expect(refusal({ transcript: (one) => ({ ...one, root: { ...one.root, ...root } }) })).toMatch(
        /transcript names another root/,
      );
  });

  it('is refused with one serial for two certificates, or one of another trust domain', () => {
    const same = `21${'ab'.repeat(16)}` as Serial;
    expect(refusal(changing('issuer-certificate', () => ({ serial: same })))).toMatch(/have one serial/);
    const roots = `21${'cd'.repeat(16)}` as Serial;
    let issuers = 0;
    const asTheRoot = (artefact: Artefact): Artefact =>
      artefact.kind === 'root-certificate' || (artefact.kind === 'issuer-certificate' && issuers++ === 0)
        ? { ...artefact, serial: roots }
        : artefact;
    expect(refusal({ artefact: asTheRoot })).toMatch(/have one serial/);
    const foreign = `22${'ab'.repeat(16)}` as Serial;
    expect(refusal(changing('root-certificate', () => ({ serial: foreign })))).toMatch(/begin with 21/);
    expect(refusal(changing('root-certificate', () => ({ serial: '2101' as Serial })))).toMatch(
      /begin with 21/,
    );
  });

  it('is refused with a signature that does not verify, of whatever', () => {
    for (const spoilt of ['root-certificate', 'root-crl', 'issuer-certificate'] as const)
      expect(refusal({ spoilt }), spoilt).toMatch(/not signed with its own key|wrong signature/);
  });
});

describe('the result of a renewal', () => {
  /** A root with what it signed first, and what a renewal of it must follow. */
  function renewed() {
    const { request, root, files } = softwareCeremony(nowMs);
    const first = verifyFirstResult(files, { request, nowMs });
    const statement: Statement = {
      trustDomain: request.trustDomain,
      sequence: 7,
      notAfterMs: nowMs + 1000 * 86_400,
      logKeys: request.logKeys.map((one) => ({ ...one, name: request.logOrigin })),
      publicationUrls: [request.publicationUrl],
    };
    const { crlNumber, tbs } = first.crl;
    const rootDer = first.root.certificateDer;
    const laterMs = nowMs + 60_000;
    const state = {
      rootDer,
      statement,
      lastCrl: { crlNumber, tbs },
      revoked: [] as RenewedState['revoked'],
      nowMs: laterMs,
    };
    const seconds = laterMs / 1000;
    const renewal = (
      change: Partial<Statement>,
      crl: Artefact = crlArtefact(root, crlNumber + 1n, seconds),
      astray: Parameters<typeof softwareRenewal>[2] = {},
    ) =>
      softwareRenewal(root, { statement: { ...statement, ...change }, crl, nowMs: laterMs, rootDer }, astray);
    return { state, renewal, crlNumber, root, request, seconds };
  }

  it('is taken where it is newer', () => {
    const { state, renewal } = renewed();
    expect(verifyRenewal(renewal({ sequence: 8 }), state).statement.sequence).toBe(8);
  });

  it('is refused with a sequence or a CRL number that does not rise', () => {
    const { state, renewal, crlNumber, root, seconds } = renewed();
    for (const sequence of [6, 7])
      expect(() => verifyRenewal(renewal({ sequence }), state)).toThrow(
        expect.objectContaining({ code: 'policy-conflict' }),
      );
    for (const number of [crlNumber, crlNumber - 1n])
      expect(() =>
        verifyRenewal(renewal({ sequence: 8 }, crlArtefact(root, number, seconds - 1)), state),
      ).toThrow(expect.objectContaining({ code: 'policy-conflict' }));
  });

  it('is refused with a CRL dated before the last one, or that ends before it', () => {
    const { state, renewal, crlNumber, root, seconds } = renewed();
    const dated = (thisUpdateSeconds: number, days: number): Artefact => ({
      ...{ kind: 'root-crl', rootName: root.name, crlNumber: crlNumber + 1n, revoked: [] },
      ...{ thisUpdateSeconds, nextUpdateSeconds: seconds + days * 86_400 },
    });
    for (const crl of [dated(seconds - 60, 31), dated(seconds, 29)])
      expect(() => verifyRenewal(renewal({ sequence: 8 }, crl), state)).toThrow(
        /dated before the last one, or ends before it/,
      );
    expect(verifyRenewal(renewal({ sequence: 8 }, dated(seconds, 30)), state).statement.sequence).toBe(8);
  });

  it('is not a first ceremony', () => {
    const { state, request, root } = renewed();
    expect(() => verifyRenewal(softwareResult(root, request, nowMs), state)).toThrow(
      /it is a first ceremony/,
    );
  });

  it('is refused where its statement names other issuers, or none any more', () => {
    const { state, renewal } = renewed();
    const [first, standby, other] = ['1a', '2b', '3c'].map((byte) => byte.repeat(20)) as [
      string,
      string,
      string,
    ];
    const paired = { ...state, statement: { ...state.statement, issuers: [first, standby] } };
    const naming = (issuers?: string[]) => renewal({ sequence: 8, ...(issuers ? { issuers } : {}) });
    expect(verifyRenewal(naming([first, standby]), paired).statement.sequence).toBe(8);
    for (const issuers of [undefined, [first], [first, other], [first, standby, other]])
      expect(() => verifyRenewal(naming(issuers), paired)).toThrow(/other issuers/);
    expect(() => verifyRenewal(naming([first]), state)).toThrow(/other issuers/);
  });

  it('is refused with another log key, and by another root', () => {
    const { state, renewal, request } = renewed();
    const logKeys = [{ ...state.statement.logKeys[0], publicKeySpki: softwareKey('ed25519').spki }];
    expect(() =>
      verifyRenewal(renewal({ sequence: 8, logKeys: logKeys as Statement['logKeys'] }), state),
    ).toThrow(/other log keys/);
    const stranger = softwareResult(new SoftwareRoot(), request, nowMs, { kind: 'renewal' });
    expect(() => verifyRenewal(stranger, state)).toThrow(/not signed by this root/);
  });

  it('is refused where its CRL does not list so what its transcript says was revoked', () => {
    const { state, renewal, crlNumber, root, seconds } = renewed();
    const serial = '0badc0de' as Serial;
    const listing = crlArtefact(root, crlNumber + 1n, seconds, [
      encodeRevoked({ serial, dateSeconds: seconds, reason: 'superseded' }),
    ]);
    const told = (reason: 'superseded' | 'cACompromise', atSeconds: number) =>
      renewal({ sequence: 8 }, listing, {
        transcript: (transcript) => ({
          ...transcript,
          signed: transcript.signed.map((item) => ({
            ...item,
            ...(item.kind === 'root-crl' && {
              revoked: [{ keyId: '1a'.repeat(20), serial, reason, revokedAt: rfc3339(atSeconds * 1000) }],
            }),
          })),
        }),
      });
    expect(verifyRenewal(told('superseded', seconds), state).crl.count).toBe(1);
    for (const lie of [told('cACompromise', seconds), told('superseded', seconds - 1)])
      expect(() => verifyRenewal(lie, state)).toThrow(/its transcript says that 0badc0de was revoked/);
  });

  it('is refused with a CRL that forgets what is revoked', () => {
    const { state, renewal, crlNumber, root, seconds } = renewed();
    const serial = '0badc0de' as Serial;
    const revoked = encodeRevoked({ serial, dateSeconds: seconds - 5, reason: 'keyCompromise' });
    const listing = crlArtefact(root, crlNumber + 1n, seconds, [revoked]);
    const after = {
      ...state,
      revoked: [{ serial, reason: 'superseded' as const, crlDateSeconds: undefined }],
    };
    expect(verifyRenewal(renewal({ sequence: 8 }, listing), after).crl.count).toBe(1);
    expect(() => verifyRenewal(renewal({ sequence: 8 }), after)).toThrow(/forgets the revoked 0badc0de/);
    for (const [reason, crlDateSeconds] of [
      ['cACompromise', undefined],
      ['superseded', seconds - 6],
    ] as const) {
      const other = { ...state, revoked: [{ serial, reason, crlDateSeconds }] };
      expect(() => verifyRenewal(renewal({ sequence: 8 }, listing), other)).toThrow(
        /another date, or no worse reason/,
      );
    }
  });
});
