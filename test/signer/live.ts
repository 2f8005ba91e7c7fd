import { generateKeyPairSync, hash, type KeyObject, randomBytes, X509Certificate } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../src/core/clock.ts';
import { newSerial } from '../../src/core/serial.ts';
import { crlBody, encodeLeaf, jsonBody } from '../../src/log/leaf.ts';
import { Frontier, hashLeaf } from '../../src/log/merkle.ts';
import type { LogKey } from '../../src/log/note.ts';
import { encodeAuthority, type SignerAuthority } from '../../src/signer/authority-file.ts';
import { type CeremonyResult, runCeremony } from '../../src/signer/ceremony.ts';
import type { AppendItem, ResumeState } from '../../src/signer/port.ts';
import type { SignerConfig } from '../../src/signer/runtime.ts';
import type { SignerLog } from '../../src/signer/signer-log.ts';
import { openSigner, type SignerOptions, type SupervisedSigner } from '../../src/signer/supervisor.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { buildCertificateTbs } from '../../src/x509/certificate-tbs.ts';
import { buildCrlTbs } from '../../src/x509/crl-tbs.ts';
import { emptyName } from '../../src/x509/name.ts';
import { keyIdOf } from '../../src/x509/public-key.ts';
import { newTestToken, temporaryFolder, type TestToken } from '../support/hsm.ts';
import { builtSigner } from '../support/signer-build.ts';
import { referencePath } from '../log/reference-tree.ts';
import { limits, publicationUrl, spkiOf, trustDomain } from './fixture.ts';

/** What the signer and its supervisor said. */
export interface Said {
  level: string;
  message: string;
  fields: Record<string, unknown>;
}

/** A CA in SoftHSM with a signer process of its own, and in memory the log that a server would keep. */
export interface LiveSigner {
  entry: string;
  token: TestToken;
  rootToken: TestToken;
  ceremony: CeremonyResult;
  stateDir: string;
  configFile: string;
  config: SignerConfig;
  authority: SignerAuthority;
  issuerKey: KeyObject;
  logKey: LogKey;
  said: Said[];
}

/** Makes tokens, holds the ceremony and writes what `vouch init` would for the signer. */
export async function liveSigner(
  overrides: Partial<SignerAuthority> = {},
  token: TestToken = newTestToken('online'),
): Promise<LiveSigner> {
  const entry = await builtSigner();
  const folder = temporaryFolder('live');
  const rootToken = newTestToken('root', folder);
  const said: Said[] = [];
  const logOrigin = `${trustDomain}/vouch-log`;
  const ceremony = await runCeremony({
    ...{ entry, hsm: token.hsm, rootHsm: rootToken.hsm, trustDomain, logOrigin, publicationUrl },
    refusedPrefix: `${folder}/`,
    ...{ clock: systemClock, serialPrefix: 0x2a, nameConstraints: undefined, log: logInto(said) },
    keyTypes: { root: 'ec-p384', issuer: 'ec-p256', log: undefined },
    logAhead: () => Promise.resolve(),
  });
  const authority: SignerAuthority = {
    ...{ trustDomain, logOrigin, limits, rollbackMark: 'token', logKey: ceremony.logKey },
    issuers: [ceremony.issuer],
    ...overrides,
  };
  const stateDir = join(folder, 'state');
  mkdirSync(join(stateDir, 'signer'), { recursive: true, mode: 0o700 });
  writeFileSync(join(stateDir, 'signer/authority.json'), encodeAuthority(authority), { mode: 0o600 });
  const config = { stateDir, hsm: token.hsm };
  const configFile = join(folder, 'config.json');
  writeFileSync(configFile, JSON.stringify(config));
  const { algorithm, publicKeySpki } = ceremony.logKey;
  const issuerKey = new X509Certificate(ceremony.issuer.certificateDer).publicKey;
  const logKey = { name: logOrigin, algorithm, publicKeySpki };
  return {
    entry,
    token,
    rootToken,
    ceremony,
    stateDir,
    configFile,
    config,
    authority,
    issuerKey,
    logKey,
    said,
  };
}

/** The server's side of the log. */
export class LiveLog {
  readonly live: LiveSigner;
  readonly leaves: Buffer[] = [];
  checkpoint: string | undefined;
  #frontier = Frontier.empty();
  #peaks = new Map<number, Buffer[]>([[0, []]]);

  constructor(live: LiveSigner) {
    this.live = live;
  }

  /** Commits leaves; returns the index of the first. */
  commit(items: readonly AppendItem[]): number {
    const first = this.leaves.length;
    for (const { leaf } of items) {
      this.leaves.push(leaf);
      this.#frontier.append(hashLeaf(leaf));
      this.#peaks.set(this.leaves.length, this.#frontier.peaks());
    }
    return first;
  }

  root(): Buffer {
    return this.#frontier.root();
  }

  rootAt(size: number): Buffer {
    return Frontier.fromPeaks(size, this.#peaks.get(size) ?? []).root();
  }

  /** As a server gives it to a signer that took up the tree past a batch that it has not answered. */
  auditPath(index: number, treeSize: number): Buffer[] {
    return referencePath(index, this.leaves.slice(0, treeSize));
  }

  resume(): ResumeState {
    const { leaves, checkpoint } = this;
    const size = checkpoint === undefined ? 0 : Number(checkpoint.split('\n')[1]);
    async function* rest() {
      for (let at = size; at < leaves.length; at += 100) yield leaves.slice(at, at + 100);
    }
    return { checkpoint, peaks: this.#peaks.get(size) ?? [], leaves: rest() };
  }
}

/** Starts the signer over a log; `genesis` where the log is new. */
export function startSigner(log: LiveLog, overrides: Partial<SignerOptions> = {}): SupervisedSigner {
  const { entry, configFile, token, said } = log.live;
  const args = ['signer', '--config', configFile];
  return openSigner({
    signer: { spawn: { entry, args, environment: token.hsm.environment } },
    resume: () => log.resume(),
    clock: systemClock,
    log: logInto(said),
    genesis: log.checkpoint === undefined,
    ...overrides,
  });
}

const spki = spkiOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey);

/** A certificate item with the machine's time. */
export function liveCertificate(live: LiveSigner, name = 'orders'): AppendItem & { tbs: Buffer } {
  const nowSeconds = Math.floor(systemClock.now() / 1000);
  const { issuer } = live.ceremony;
  const tbs = buildCertificateTbs({
    serial: newSerial(0x2a, randomBytes),
    algorithm: issuer.algorithm,
    issuerName: parseCertificate(issuer.certificateDer).subjectName,
    subjectName: emptyName,
    notBeforeSeconds: nowSeconds - 60,
    notAfterSeconds: nowSeconds + 3599,
    spki,
    uris: [`spiffe://${trustDomain}/${name}`],
    dnsNames: [],
    ipAddresses: [],
    authorityKeyId: issuer.keyId,
    subjectKeyId: keyIdOf(spki),
    crlUrls: [`${publicationUrl}/crl/${issuer.keyId}/1.crl`],
    issuerUrl: `${publicationUrl}/ca/${issuer.keyId}.cer`,
  });
  const leaf = liveLeaf({ type: 'certificate', body: tbs, issuerKeyId: issuer.keyId });
  return { purpose: 'certificate', leaf, tbs };
}

/** A full CRL item with the machine's time, to be sent before it is appended. */
export function liveCrl(
  live: LiveSigner,
  crlNumber = BigInt(systemClock.now()),
  revoked: readonly Buffer[] = [],
): AppendItem & { tbs: Buffer } {
  const nowSeconds = Math.floor(systemClock.now() / 1000);
  const { issuer } = live.ceremony;
  const tbs = buildCrlTbs({
    algorithm: issuer.algorithm,
    issuerName: parseCertificate(issuer.certificateDer).subjectName,
    thisUpdateSeconds: nowSeconds,
    nextUpdateSeconds: nowSeconds + 86_400,
    authorityKeyId: issuer.keyId,
    crlNumber,
    revoked,
  });
  const body = crlBody({ scope: 'full', crlNumber, tbsSha256: hash('sha256', tbs, 'buffer') });
  return { purpose: 'crl', leaf: liveLeaf({ type: 'crl', body, issuerKeyId: issuer.keyId }), tbs };
}

/** An item that is only recorded. */
export function liveRecord(): AppendItem {
  return {
    purpose: 'record',
    leaf: liveLeaf({ type: 'operator', body: jsonBody(randomBytes(4).toString('hex')), issuerKeyId: '' }),
  };
}

function liveLeaf(leaf: {
  type: 'certificate' | 'crl' | 'operator';
  body: Buffer;
  issuerKeyId: string;
}): Buffer {
  return encodeLeaf({ ...leaf, timeMs: systemClock.now(), context: randomBytes(32) });
}

function logInto(said: Said[]): SignerLog {
  return (level, message, fields) => void said.push({ level, message, fields: { ...fields } });
}
