import { hash, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { decodeCrlBody, decodeLeaf } from '../../src/log/leaf.ts';
import { proofText } from '../../src/signer/pkcs11/signing.ts';
import { newTestToken, type TestToken } from './hsm.ts';

/** When a rule applies; without any of these, at each call. See `hsm-sim/README.md`. */
export interface When {
  /** Counted over all processes since the rules were written: this call alone, the first ones, all past so many. */
  nth?: number;
  first?: number;
  after?: number;
  every?: number;
  /** Fires so often at most. */
  times?: number;
  /** Probability of each call, repeatable with a seed. */
  p?: number;
  seed?: number;
  /** Milliseconds since a process first read the rules. */
  from?: number;
  for?: number;
  /** CKA_ID of the key that signs, lower-case hex. */
  id?: string;
  /** After the real call, whose result is then lost to the caller. */
  when?: 'after';
}

/** What happens to a call. */
export type Misbehaviour =
  | 'hang'
  | 'flip'
  | 'other-key'
  | 'lose-sessions'
  | 'lose-login'
  | { error: string }
  | { crash: 'segv' | 'abort' }
  | { delay: number; jitter?: number; parallel?: number; rate?: number };

/** What the token as a whole is like. */
export type TokenTrait =
  | 'removed'
  | 'shuffle-slots'
  | 'bare-points'
  | { sessions: number }
  | { idle: number }
  | { hide: readonly string[] };

/** One line of the control file. */
export type Rule =
  | ({ on: string | readonly string[]; do: Misbehaviour } & When)
  | ({ token: TokenTrait } & Pick<When, 'from' | 'for'>);

/** A signature as the simulator wrote it down before it gave it out. */
export interface LoggedSignature {
  time: string;
  pid: number;
  function: string;
  /** Lower-case hex. */
  ckaId: string;
  mechanism: string;
  /** What C_Sign was given, hex. */
  data: string;
  rv: string;
  /** What the token made, hex; what was given out differs where `fault` stands. */
  signature: string;
  fault?: string;
}

/** A SoftHSM token behind the simulator of `hsm-sim/shim`. */
export interface SimulatedToken extends TestToken {
  /** From now on; counters start anew, a hang or wait under way ends. */
  control: (rules: readonly Rule[] | string) => void;
  /** Ends all misbehaviour; what was lost stays lost. */
  calm: () => void;
  /** How often each rule has fired since they were written, by any process. */
  fired: () => number[];
  /** Everything that the token signed, in the order of its doing. */
  signatures: () => LoggedSignature[];
}

/** Makes a token behind the simulator, calm or with a profile of `hsm-sim/profiles`. */
export function simulatedToken(
  label = 'simulated',
  options: { dir?: string; profile?: string } = {},
): SimulatedToken {
  const profile = options.profile === undefined ? [] : ['--profile', options.profile];
  const token = newTestToken(label, options.dir, ['--shim', ...profile]);
  const { HSM_SIM_CONTROL: controlFile = '', HSM_SIM_LOG: logFile = '' } = token.hsm.environment;
  return {
    ...token,
    control: (rules) => {
      const text = typeof rules === 'string' ? rules : rules.map(ruleLine).join('\n');
      writeFileSync(`${controlFile}.new`, `${text}\n`);
      renameSync(`${controlFile}.new`, controlFile);
    },
    calm: () => rmSync(controlFile, { force: true }),
    fired: () => readFired(controlFile),
    signatures: () => readSignatures(logFile),
  };
}

/**
 * Signatures of an issuer's key over neither its start-up proof nor what is in a leaf (I1). A P-384 key signs SHA-384
 * digests, which the leaf of a CRL does not tell: give the TBS of those CRLs.
 */
export function orphanSignatures(
  signatures: readonly LoggedSignature[],
  issuer: { ckaId: string; certificateDer: Buffer },
  logged: { leaves: readonly Buffer[]; crlTbs?: readonly Buffer[] },
): LoggedSignature[] {
  const spki = new X509Certificate(issuer.certificateDer).publicKey.export({ format: 'der', type: 'spki' });
  const whole = [proofText(spki), ...(logged.crlTbs ?? [])].flatMap(bothDigests);
  const known = new Set([...whole, ...logged.leaves.flatMap(signedDigests)]);
  return signatures.filter(
    ({ ckaId, signature, data }) =>
      ckaId === issuer.ckaId && signature !== '' && !digestsIn(data).some((digest) => known.has(digest)),
  );
}

/** Digests of what an issuer may sign for a leaf, hex. */
function signedDigests(leafBytes: Buffer): string[] {
  const { type, body } = decodeLeaf(leafBytes);
  if (type === 'crl') return [decodeCrlBody(body).tbsSha256.toString('hex')];
  return type === 'certificate' ? bothDigests(body) : [];
}

function bothDigests(bytes: Buffer): string[] {
  return [hash('sha256', bytes, 'hex'), hash('sha384', bytes, 'hex')];
}

/** DigestInfo of SHA-256 up to the digest (RFC 8017 §9.2, note 1). */
const digestInfo = '3031300d060960864801650304020105000420';

/** What C_Sign was given is the digest, a DigestInfo around it, or for Ed25519 all of the TBS. */
function digestsIn(data: string): string[] {
  return [data, data.replace(digestInfo, ''), hash('sha256', Buffer.from(data, 'hex'), 'hex')];
}

function ruleLine(rule: Rule): string {
  const { subject, behaviour, when } = partsOf(rule);
  const words = typeof behaviour === 'string' ? [behaviour] : Object.entries(behaviour).map(word);
  return [subject, ...words, ...Object.entries(when).map(word)].join(' ');
}

function partsOf(rule: Rule) {
  if ('token' in rule) {
    const { token, ...when } = rule;
    return { subject: 'token', behaviour: token, when };
  }
  const { on, do: behaviour, ...when } = rule;
  return { subject: [on].flat().join(','), behaviour, when };
}

function word([name, value]: [string, unknown]): string {
  return `${name}=${String(value)}`;
}

function readSignatures(file: string): LoggedSignature[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as LoggedSignature);
}

/** Offsets in the state file, as `hsm-sim/README.md` says them. */
const inodeAt = 16;
const mtimeAt = 24;
const rulesAt = 40 + 64 * 16;
const ruleBytes = 24 + 32 * 8;
const firedAt = 8;

function readFired(controlFile: string): number[] {
  const lines = existsSync(controlFile) ? readFileSync(controlFile, 'utf8').split('\n') : [];
  const rules = lines.filter((line) => line.replace(/#.*/, '').trim() !== '');
  const stateFile = `${controlFile}.state`;
  if (rules.length === 0 || !existsSync(stateFile)) return rules.map(() => 0);
  const state = readFileSync(stateFile);
  const { ino, mtimeNs } = statSync(controlFile, { bigint: true });
  // Nobody has called since the rules were written.
  if (state.readBigUInt64LE(inodeAt) !== ino || state.readBigUInt64LE(mtimeAt) !== mtimeNs)
    return rules.map(() => 0);
  // The upper 16 bits name the version of the rules.
  return rules.map((_, index) => state.readUIntLE(rulesAt + index * ruleBytes + firedAt, 6));
}
