import { randomBytes } from 'node:crypto';
import { type Artefact, defaultRootName } from '../ceremony/artefacts.ts';
import type { Clock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { newSerial } from '../core/serial.ts';
import type { TrustDomain } from '../core/spiffe-id.ts';
import type { LogKeyAlgorithm } from '../log/note.ts';
import type { Statement } from '../log/statement.ts';
import type { SignatureAlgorithm } from '../x509/algorithm.ts';
import type { CaTemplate } from '../x509/certificate-tbs.ts';
import { keyIdOf } from '../x509/public-key.ts';
import { type LogKeyType, logKeyTypes, type SigningKeyType } from '../x509/signing-key-type.ts';
import { CeremonyClient } from './ceremony-client.ts';
import type { HsmConfig, HsmKey } from './hsm.ts';
import { signByRoot } from './root-signer.ts';
import type { SignerLog } from './signer-log.ts';

/** What the parent must have in the durable log before the root signs it (I1). */
export type CeremonyRecord =
  | { kind: 'authority'; role: 'root' | 'issuer'; keyId: string; issuerKeyId: string; tbs: Buffer }
  | { kind: 'crl'; issuerKeyId: string; scope: 'full'; crlNumber: bigint; tbs: Buffer }
  /** `tbs` is the JWS signing input. */
  | { kind: 'statement'; rootKeyId: string; sequence: number; tbs: Buffer };

/** Lifetimes in seconds. */
export interface CeremonyLifetimes {
  root: number;
  rootCrl: number;
  issuer: number;
  statement: number;
}

const day = 86_400;

/** The root has a token of its own and is used for ceremonies only; the rest is renewed by one. */
export const ceremonyLifetimes: CeremonyLifetimes = {
  root: 3650 * day,
  rootCrl: 365 * day,
  issuer: 90 * day,
  statement: 365 * day,
};

/** A clock of a relying party may be behind ours by so much. */
const backdateSeconds = 60;

/** What signs and where, common to all that a root makes. */
export interface RootOptions {
  /** The program's built entry point. */
  entry: string;
  rootHsm: HsmConfig;
  log: SignerLog;
  /** What the names of the notes of refused PINs begin with: a place that outlives a ceremony that failed. */
  refusedPrefix: string;
  /** Resolves when the record is durable; the root signs only then. */
  logAhead: (what: CeremonyRecord) => Promise<void>;
}

/** The first ceremony. */
export interface CeremonyOptions extends RootOptions {
  hsm: HsmConfig;
  /** A second online token, with an issuer and a log key of its own. */
  standbyHsm?: HsmConfig | undefined;
  trustDomain: TrustDomain;
  logOrigin: string;
  /** Base URL, without a slash at its end. */
  publicationUrl: string;
  clock: Clock;
  serialPrefix: number;
  keyTypes: CeremonyKeyTypes;
  /** On the issuer; undefined: none. */
  nameConstraints: CaTemplate['nameConstraints'];
  lifetimes?: Partial<CeremonyLifetimes>;
}

/** Which keys are made. */
export interface CeremonyKeyTypes {
  root: SigningKeyType;
  issuer: SigningKeyType;
  /** Undefined: the first of `logKeyTypes` that the token makes. */
  log: LogKeyType | undefined;
}

/** A key with its certificate. */
export interface CertifiedKey {
  keyId: string;
  ckaId: string;
  algorithm: SignatureAlgorithm;
  certificateDer: Buffer;
}

/** What came of the first ceremony; every signature is verified. */
export interface CeremonyResult {
  root: CertifiedKey;
  rootCrl: { der: Buffer; crlNumber: bigint; thisUpdateSeconds: number; nextUpdateSeconds: number };
  issuer: CertifiedKey;
  logKey: { ckaId: string; algorithm: LogKeyAlgorithm; publicKeySpki: Buffer };
  /** Of the second online token. */
  standby: Pick<CeremonyResult, 'issuer' | 'logKey'> | undefined;
  /** Compact JWS. */
  statement: string;
}

/**
 * Makes a CA: issuer and log key in the online token, root key in the root's, then root certificate, root CRL, issuer
 * certificate and statement, each logged before it is signed. One child process for each token, so that no process
 * knows both PINs. Rejects with `config-…` (token, PIN), `integrity-signature`, or what `logAhead` rejects with; keys
 * made until then stay in the tokens unused.
 */
export async function runCeremony(options: CeremonyOptions): Promise<CeremonyResult> {
  const nowSeconds = Math.floor(options.clock.now() / 1000);
  const { root: rootType } = options.keyTypes;
  const { standbyHsm } = options;
  const client = await CeremonyClient.open({
    ...options,
    hsm: options.rootHsm,
    refusedFile: `${options.refusedPrefix}root-pin-refused`,
  });
  try {
    client.require(rootType);
    const online = await createOnlineKeys(options);
    const standby = standbyHsm && (await createOnlineKeys({ ...options, hsm: standbyHsm }));
    const rootKey = await client.ask('createKey', { type: rootType, label: 'vouch-root' });
    return await certify({ options, client, rootKey, online, standby, nowSeconds });
  } finally {
    client.end();
  }
}

/**
 * Name constraints for an issuer of this trust domain alone. Throws `config-invalid` where it looks like an IP address:
 * RFC 5280 §4.2.1.10 has constraints on hosts' names only, and verifiers differ on anything else.
 */
export function constrainedTo(trustDomain: TrustDomain): CaTemplate['nameConstraints'] {
  if (/(?:^|\.)(?:0x[0-9a-f]*|\d+)\.?$/.test(trustDomain))
    throw new VouchError(
      'config-invalid',
      `trust domain ${trustDomain} looks like an IP address and cannot be a name constraint; turn them off`,
    );
  return { permittedUriDomains: [trustDomain] };
}

/** Has the root sign another statement, of a higher sequence: after a restore, or before the last one ends. */
export async function signStatement(
  options: RootOptions & { rootKey: HsmKey; statement: Statement },
): Promise<string> {
  const client = await CeremonyClient.open({
    ...options,
    hsm: options.rootHsm,
    refusedFile: `${options.refusedPrefix}root-pin-refused`,
  });
  try {
    await client.ask('useKey', options.rootKey);
    return await statementBy(client, options.rootKey, options.statement, options.logAhead);
  } finally {
    client.end();
  }
}

/** Makes the key of a new log in the online token. */
export async function createLogKey(
  options: Pick<CeremonyOptions, 'entry' | 'hsm' | 'log' | 'refusedPrefix'> & {
    type: LogKeyType | undefined;
  },
): Promise<CeremonyResult['logKey']> {
  const client = await CeremonyClient.open({
    ...options,
    refusedFile: `${options.refusedPrefix}pin-refused`,
  });
  try {
    return await newLogKey(client, logKeyType(client, options.type));
  } finally {
    client.end();
  }
}

/** Keys of one online token. */
interface OnlineKeys {
  issuerKey: HsmKey;
  logKey: CeremonyResult['logKey'];
}

async function createOnlineKeys(options: CeremonyOptions): Promise<OnlineKeys> {
  const client = await CeremonyClient.open({
    ...options,
    refusedFile: `${options.refusedPrefix}pin-refused`,
  });
  try {
    const type = options.keyTypes.issuer;
    client.require(type);
    const logType = logKeyType(client, options.keyTypes.log);
    const issuerKey = await client.ask('createKey', { type, label: 'vouch-issuer' });
    return { issuerKey, logKey: await newLogKey(client, logType) };
  } finally {
    client.end();
  }
}

/** What was asked for, or the best that the token makes. Throws `config-hsm` where it does not make it. */
function logKeyType(client: CeremonyClient, wanted: LogKeyType | undefined): LogKeyType {
  const type = wanted ?? logKeyTypes.find((one) => client.makes(one)) ?? 'ec-p256';
  client.require(type);
  return type;
}

/** Keys of an authority whose root is elsewhere. */
export interface RequestKeys {
  /** The first one is to sign now; `csrDer`: its PKCS#10 request. */
  issuers: { key: HsmKey; csrDer: Buffer }[];
  logKey: CeremonyResult['logKey'];
}

/**
 * Makes issuer keys and log key in the online token and has each prove itself: a CSR of each issuer, and the log key's
 * signature over the request text that `proofText` makes of all of them.
 */
export async function createRequestKeys(
  options: Pick<CeremonyOptions, 'entry' | 'hsm' | 'log' | 'refusedPrefix' | 'trustDomain'> & {
    keyTypes: Pick<CeremonyKeyTypes, 'issuer' | 'log'>;
    issuerCount: number;
    proofText: (keys: RequestKeys) => Buffer;
  },
): Promise<RequestKeys & { proof: Buffer }> {
  const { trustDomain, keyTypes, issuerCount, proofText } = options;
  const client = await CeremonyClient.open({
    ...options,
    refusedFile: `${options.refusedPrefix}pin-refused`,
  });
  try {
    client.require(keyTypes.issuer);
    const logType = logKeyType(client, keyTypes.log);
    const issuers: RequestKeys['issuers'] = [];
    for (let number = 0; number < issuerCount; number++) {
      const key = await client.ask('createKey', { type: keyTypes.issuer, label: 'vouch-issuer' });
      issuers.push({ key, csrDer: await client.ask('requestCertificate', { trustDomain }) });
    }
    const keys = { issuers, logKey: await newLogKey(client, logType) };
    return { ...keys, proof: await client.ask('proveLogKey', { text: proofText(keys) }) };
  } finally {
    client.end();
  }
}

async function newLogKey(client: CeremonyClient, type: LogKeyType): Promise<CeremonyResult['logKey']> {
  const { ckaId, publicKeySpki } = await client.ask('createKey', { type, label: 'vouch-log' });
  return { ckaId, publicKeySpki, algorithm: type === 'ed25519' ? 'ed25519' : 'ecdsa-p256' };
}

interface Certification {
  options: CeremonyOptions;
  client: CeremonyClient;
  rootKey: HsmKey;
  online: OnlineKeys;
  standby: OnlineKeys | undefined;
  nowSeconds: number;
}

async function certify(parts: Certification): Promise<CeremonyResult> {
  const { options, client, rootKey, online, standby, nowSeconds } = parts;
  const { trustDomain, serialPrefix, publicationUrl, nameConstraints, logOrigin, logAhead } = options;
  const lifetimes = { ...ceremonyLifetimes, ...options.lifetimes };
  const validity = (seconds: number) => ({
    notBeforeSeconds: nowSeconds - backdateSeconds,
    notAfterSeconds: nowSeconds + Math.min(seconds, lifetimes.root) - 1,
  });
  const rootKeyId = keyIdOf(rootKey.publicKeySpki);
  const rootName = defaultRootName(trustDomain, rootKeyId);
  const certificate = (seconds: number) => ({
    ...{ trustDomain, rootName, validity: validity(seconds) },
    serial: newSerial(serialPrefix, randomBytes),
  });
  const rootSigned = (artefact: Artefact, record: (tbs: Buffer) => CeremonyRecord): Promise<Buffer> =>
    signByRoot(client, rootKey, artefact, (tbs) => logAhead(record(tbs)));

  const root = await rootSigned({ kind: 'root-certificate', ...certificate(lifetimes.root) }, (tbs) => ({
    kind: 'authority',
    role: 'root',
    keyId: rootKeyId,
    issuerKeyId: rootKeyId,
    tbs,
  }));
  const crlTimes = { thisUpdateSeconds: nowSeconds, nextUpdateSeconds: nowSeconds + lifetimes.rootCrl };
  // max(last + 1, Unix ms): the first one has no last.
  const crlNumber = BigInt(nowSeconds) * 1000n;
  const crl = await rootSigned(
    { kind: 'root-crl', rootName, crlNumber, ...crlTimes, revoked: [] },
    (tbs) => ({ kind: 'crl', issuerKeyId: rootKeyId, scope: 'full', crlNumber, tbs }),
  );
  const certified = async ({ issuerKey, logKey }: OnlineKeys) => {
    const keyId = keyIdOf(issuerKey.publicKeySpki);
    const certificateDer = await rootSigned(
      {
        ...{ kind: 'issuer-certificate', ...certificate(lifetimes.issuer) },
        ...{ spki: issuerKey.publicKeySpki, publicationUrl, nameConstraints },
      },
      (tbs) => ({ kind: 'authority', role: 'issuer', keyId, issuerKeyId: rootKeyId, tbs }),
    );
    const { ckaId, algorithm } = issuerKey;
    return { issuer: { keyId, ckaId, algorithm, certificateDer }, logKey };
  };
  const first = await certified(online);
  const second = standby && (await certified(standby));
  const all = second ? [first, second] : [first];
  const statement = await statementBy(
    client,
    rootKey,
    {
      trustDomain,
      sequence: 1,
      notAfterMs: (nowSeconds + lifetimes.statement) * 1000,
      logKeys: all.map(({ logKey: { algorithm, publicKeySpki } }) => {
        return { name: logOrigin, algorithm, publicKeySpki };
      }),
      publicationUrls: [publicationUrl],
      ...(second ? { issuers: all.map(({ issuer }) => issuer.keyId) } : {}),
    },
    logAhead,
  );
  return {
    root: { keyId: rootKeyId, ckaId: rootKey.ckaId, algorithm: rootKey.algorithm, certificateDer: root },
    rootCrl: { der: crl, crlNumber, ...crlTimes },
    ...first,
    standby: second,
    statement,
  };
}

async function statementBy(
  client: CeremonyClient,
  rootKey: HsmKey,
  statement: Statement,
  logAhead: RootOptions['logAhead'],
): Promise<string> {
  const rootKeyId = keyIdOf(rootKey.publicKeySpki);
  const announce = (tbs: Buffer): Promise<void> =>
    logAhead({ kind: 'statement', rootKeyId, sequence: statement.sequence, tbs });
  return (await signByRoot(client, rootKey, { kind: 'statement', statement }, announce)).toString('ascii');
}
