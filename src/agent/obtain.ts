import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { VerifiedCrl } from '../client/crl.ts';
import { type Clock, rfc3339 } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import type { SpiffeId } from '../core/spiffe-id.ts';
import type { CertificateAnswer } from '../wire/enrollment.ts';
import { keyIdOf, type KeyType } from '../x509/public-key.ts';
import { rootsOf, type VerifiedAnswer, verifyAnswer } from './answer.ts';
import { ask, type Credential, evidenceOf } from './ask.ts';
import { describeSkew, withSkew } from './clock-skew.ts';
import { learnRoot, type ServerAddress } from './connection.ts';
import { chainAuthorities, collectCrls, type CrlPolicy } from './crls.ts';
import { replaceFile } from './deliver/durable-file.ts';
import { deliverGeneration, makeDeliveryFolder } from './deliver/files.ts';
import { readHeldCrls } from './held-crls.ts';
import { dropPendingKey, type PendingKey, pendingKey } from './pending-key.ts';
import { type Backoff, type Retries, untilDone, withRetries } from './retry.ts';
import { type AgentState, formatState, highest, newestOf, readState, type Seen, stateFile } from './state.ts';

/** One enrollment or renewal. */
export interface Errand {
  dir: string;
  address: ServerAddress;
  /** DER of the pinned root, or undefined to take it from a first connection. */
  root: Buffer | undefined;
  seen: Seen;
  credential: Credential;
  /** Kept in agent.json; hex SHA-256 of the join token used last. */
  usedToken: string;
  /** What `--key-type` asks for; undefined: `usualKeyType`. */
  keyType: KeyType | undefined;
  /** Of what is renewed, or the default. */
  usualKeyType: KeyType;
  crlPolicy: CrlPolicy;
  timeoutMs: number;
  backoff: Backoff;
}

/** What an errand is run with. */
export interface AgentParts {
  clock: Clock;
  signal: AbortSignal;
  /** A line for whoever reads stderr. */
  notice: (line: string) => void;
  /** Keeps the delivery to itself where a CRL refresh runs beside it. */
  exclusively: <T>(work: () => Promise<T>) => Promise<T>;
  /** Is told that a request is on its way: the time until its answer is good for something else. */
  awaiting?: () => void;
}

/** What enroll and renew print. */
export interface Delivery {
  dir: string;
  spiffeId: SpiffeId;
  serial: string;
  /** RFC 3339. */
  notBefore: string;
  notAfter: string;
  issuerKeyId: string;
  logIndex: number;
}

/**
 * Asks for a certificate, checks everything, and only then touches the delivered files. The key is on disk before it is
 * sent and stays there until its certificate is delivered, so that running this again after any failure asks for the
 * same one.
 */
export async function obtain(errand: Errand, parts: AgentParts): Promise<Delivery> {
  const retries = retrying(errand, parts);
  const { answer, root, pending, skewMs } = await asked(errand, parts, retries);
  const skew = describeSkew(skewMs);
  if (skew !== undefined) parts.notice(`this machine's clock is ${skew} the server's`);
  try {
    const spiffeId = errand.credential.type === 'certificate' ? errand.credential.spiffeId : undefined;
    const nowMs = parts.clock.now();
    const { address, seen } = errand;
    const verified = verifyAnswer(answer, { address, root, spki: pending.spki, seen, spiffeId, nowMs });
    const deliver = () => delivered(errand, verified, { root, pending }, parts);
    return await parts.exclusively(() => withRetries(deliver, retries));
  } catch (error) {
    throw withSkew(error, skewMs);
  }
}

/**
 * Retries with the same key until the deadline; a key that can never be certified is dropped. The first connection
 * carries nothing and goes on while the key is written; the second waits for both.
 */
async function asked(
  errand: Errand,
  parts: AgentParts,
  retries: Retries,
): Promise<{ answer: CertificateAnswer; root: Buffer; pending: PendingKey; skewMs: number }> {
  const { dir, address, credential, seen } = errand;
  const purpose = createHash('sha256').update(evidenceOf(credential)).digest('hex');
  const folder = untilDone(() => makeDeliveryFolder(dir));
  const key = untilDone(() =>
    pendingKey(dir, purpose, { asked: errand.keyType, usual: errand.usualKeyType }),
  );
  const pinned = untilDone(async () => errand.root ?? learnRoot(address, parts));
  const attempt = async () => {
    // What cannot be written to is known before anybody is dialled.
    await folder();
    const [pending, root] = await Promise.all([key(), pinned()]);
    return { root, pending, ...(await ask({ address, root, credential, pending, head: seen.head }, parts)) };
  };
  try {
    return await withRetries(attempt, retries);
  } catch (error) {
    if (error instanceof VouchError && ['request-key', 'policy-key-blocked'].includes(error.code))
      await dropPendingKey(dir);
    throw error;
  }
}

/** CRLs, state, files, in that order: agent.json first, since what was seen stays seen whatever comes after. */
async function delivered(
  errand: Errand,
  verified: VerifiedAnswer,
  got: { root: Buffer; pending: PendingKey },
  parts: AgentParts,
): Promise<Delivery> {
  const { dir } = errand;
  const { answer, leaf, authorities, otherIssuers } = verified;
  const urls = new Map(answer.crlUrls.map(({ keyId, url }) => [keyId, url]));
  const chain = chainAuthorities(leaf, authorities, otherIssuers, urls);
  const newest = newestFor(errand, verified);
  const known = newest.seen.crlNumbers;
  const { notice, signal } = parts;
  const nowMs = parts.clock.now();
  const held = readHeldCrls(join(dir, 'current'), chain, known);
  const crls = await collectCrls(chain, {
    policy: errand.crlPolicy,
    seen: known,
    held,
    nowMs,
    signal,
    notice,
  });
  const seen = { ...newest.seen, crlNumbers: withNumbers(known, crls) };
  const state = stateOf(errand, verified, { ...newest, seen, root: got.root, crlUrls: urls }, nowMs);
  await replaceFile(join(dir, stateFile), formatState(state), 0o600);
  await deliverGeneration(dir, {
    chain: [leaf, ...authorities.slice(0, -1)].map((certificate) => certificate.der),
    otherIssuers: otherIssuers.map((certificate) => certificate.der),
    keyPem: got.pending.keyPem,
    roots: rootsOf(newest.bundle ?? answer.bundle),
    crls: crls.map((crl) => crl.der),
    proof: answer.proof,
    peers: answer.peers,
  });
  await dropPendingKey(dir);
  return {
    dir,
    spiffeId: verified.spiffeId,
    serial: leaf.serial,
    notBefore: rfc3339(leaf.notBeforeMs),
    notAfter: rfc3339(leaf.notAfterMs),
    issuerKeyId: chain[0]?.keyId ?? keyIdOf(leaf.spki),
    logIndex: answer.proof.index,
  };
}

function retrying(errand: Errand, { clock, signal, notice }: AgentParts): Retries {
  return {
    backoff: errand.backoff,
    deadlineMs: clock.monotonicMs() + errand.timeoutMs,
    monotonicMs: () => clock.monotonicMs(),
    signal,
    failed: (error, pause) => notice(`${error.detail}; trying again in ${(pause / 1000).toFixed(1)} s`),
  };
}

/** What somebody beside us may have seen since the errand began counts as well: CRLs, or the bundle. */
function newestFor(errand: Errand, { answer, seen }: VerifiedAnswer): Pick<AgentState, 'seen' | 'bundle'> {
  const shown = { seen, bundle: answer.bundle };
  const state = readState(errand.dir);
  return state?.pin === errand.address.pin ? newestOf(shown, state) : shown;
}

/** The numbers seen, with those of `crls`; none falls. */
export function withNumbers(
  seen: ReadonlyMap<string, bigint>,
  crls: readonly VerifiedCrl[],
): Map<string, bigint> {
  return highest(
    seen,
    crls.map((crl) => [crl.issuerKeyId, crl.crlNumber]),
  );
}

function stateOf(
  errand: Errand,
  { answer, spiffeId, leaf }: VerifiedAnswer,
  known: Pick<AgentState, 'root' | 'seen' | 'bundle' | 'crlUrls'>,
  nowMs: number,
): AgentState {
  const { earliestSeconds, latestSeconds } = answer.renewal;
  return {
    ...errand.address,
    ...known,
    spiffeId,
    serial: leaf.serial,
    renewal: {
      earliestMs: nowMs + earliestSeconds * 1000,
      latestMs: nowMs + Math.max(earliestSeconds, latestSeconds) * 1000,
    },
    usedToken: errand.usedToken,
  };
}
