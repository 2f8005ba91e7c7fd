import { readDelivered } from '../client/delivered.ts';
import { type Clock, rfc3339 } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import type { JoinFile } from '../wire/join-file.ts';
import type { KeyType } from '../x509/public-key.ts';
import { repairBundle } from './bundle-keeper.ts';
import { CrlKeeper } from './crl-keeper.ts';
import { assertReliable, type CrlPolicy } from './crls.ts';
import { enroll, type ErrandOptions, tokenDigest } from './enroll.ts';
import { type Held, hasExpired, readHeld } from './held.ts';
import type { AgentParts } from './obtain.ts';
import { renew } from './renew.ts';
import { readJoinFile } from './secret-file.ts';
import { readState } from './state.ts';

/** Where an identity comes from and goes to. */
export interface IdentityOptions {
  joinFile: string;
  dir: string;
  keyType: KeyType | undefined;
  crlPolicy: CrlPolicy;
  timeoutMs: number;
}

/** How long a start waits for newer CRLs where those it found still count. */
const newerCrlsMs = 2000;

/** Codes that say: this token gives nothing any more. */
const spentToken = [
  'denied-token-used',
  'denied-token-expired',
  'denied-token-revoked',
  'policy-key-conflict',
];

/**
 * The identity a workload starts with. A valid certificate in `dir` that its join token made, or any where the join file
 * is gone, is renewed; where that cannot be done now it is used as it is, unless it is revoked or, under
 * `--crl require`, no fresh CRL can be had. Else the join token is used. Throws `config-state` where that is spent.
 */
export async function identityAtBoot(options: IdentityOptions, parts: AgentParts): Promise<Held> {
  const join = joinFileOrProblem(options.joinFile);
  const held = heldOrUndefined(options, join, parts);
  if (held === undefined) return enrollAtBoot(options, requireJoin(join), parts);
  try {
    await renew(options.dir, onceOf(options), parts);
    return readHeld(options.dir, parts.clock.now());
  } catch (error) {
    if (parts.signal.aborted || !(error instanceof VouchError)) throw error;
    return withoutRenewal(held, error, options, parts);
  }
}

/**
 * What stands in `dir` and can be used as it is, without asking anybody: valid, of the join file's token or any where that
 * is gone, not revoked, and under `--crl require` with fresh CRLs. Undefined where there is no such certificate.
 */
export function heldAtBoot(
  options: IdentityOptions,
  parts: Pick<AgentParts, 'clock' | 'notice'>,
): Held | undefined {
  const held = heldOrUndefined(options, joinFileOrProblem(options.joinFile), parts);
  return held && isReliable(held, options.crlPolicy, parts.clock.now()) ? held : undefined;
}

/** One attempt while the workload runs: a renewal, or an enrollment where that is refused and a new join file is there. */
export async function renewOrRejoin(options: IdentityOptions, parts: AgentParts): Promise<Held> {
  const once = onceOf(options);
  try {
    await renew(options.dir, once, parts);
  } catch (error) {
    if (!(error instanceof VouchError) || error.code.startsWith('unavailable-')) throw error;
    const join = joinFileOrProblem(options.joinFile);
    if (join instanceof VouchError || !isNewToken(join, readState(options.dir)?.usedToken ?? '')) throw error;
    parts.notice(`cannot renew (${error.detail}); enrolling with the new join file`);
    await enroll(options.dir, join, once, parts);
  }
  return readHeld(options.dir, parts.clock.now());
}

function onceOf({ keyType, crlPolicy }: IdentityOptions): ErrandOptions {
  return { keyType, crlPolicy, timeoutMs: 0 };
}

async function withoutRenewal(
  held: Held,
  error: VouchError,
  options: IdentityOptions,
  parts: AgentParts,
): Promise<Held> {
  if (error.code === 'denied-revoked') throw error;
  await assertUsable(held, options, parts);
  await repairBundle(held, parts);
  parts.notice(`cannot renew now (${error.detail}); starting with the certificate in ${options.dir}`);
  return readHeld(options.dir, parts.clock.now());
}

/** With the newest CRLs that can be had; where those in `dir` still count, the start does not wait long for newer ones. */
async function assertUsable(held: Held, options: IdentityOptions, parts: AgentParts): Promise<void> {
  const { clock, notice } = parts;
  const { dir, crlPolicy } = options;
  const waits = isReliable(held, crlPolicy, clock.now()) ? AbortSignal.timeout(newerCrlsMs) : undefined;
  const signal = waits === undefined ? parts.signal : AbortSignal.any([parts.signal, waits]);
  const ignored = { changed: () => undefined, revoked: () => undefined };
  const keeper = new CrlKeeper(held, { ...parts, ...ignored, dir, everyMs: 1000, signal });
  await keeper.refresh();
  keeper.close();
  if (waits?.aborted) notice(`no newer CRL within ${newerCrlsMs / 1000} s; those in ${dir} are used`);
  assertReliable({ chain: held.chain, crls: keeper.crls }, crlPolicy, clock.now());
}

function isReliable(held: Held, policy: CrlPolicy, nowMs: number): boolean {
  try {
    assertReliable(held, policy, nowMs);
    return true;
  } catch {
    return false;
  }
}

async function enrollAtBoot(options: IdentityOptions, join: JoinFile, parts: AgentParts): Promise<Held> {
  try {
    await enroll(options.dir, join, options, parts);
  } catch (error) {
    if (!(error instanceof VouchError) || !spentToken.includes(error.code)) throw error;
    throw new VouchError(
      'config-state',
      `${error.detail}; ${options.dir} holds no valid certificate of this join token${endOfHeld(options.dir, parts.clock)}: make a new join file with \`vouch token create\`, or keep ${options.dir} on a volume that outlives the container`,
      { cause: error },
    );
  }
  return readHeld(options.dir, parts.clock.now());
}

/** A clock that is ahead ends everything. */
function endOfHeld(dir: string, clock: Clock): string {
  try {
    const { notAfterMs } = readDelivered(dir).leaf;
    const nowMs = clock.now();
    if (nowMs <= notAfterMs) return '';
    return ` (its last one ended at ${rfc3339(notAfterMs)}, and this machine's clock says ${rfc3339(nowMs)}: is that right?)`;
  } catch {
    return '';
  }
}

/** What has expired is as good as nothing, and so is what another token made: it may be another workload's. */
function heldOrUndefined(
  { dir }: IdentityOptions,
  join: JoinFile | VouchError,
  { clock, notice }: { clock: Clock; notice: (line: string) => void },
): Held | undefined {
  try {
    const held = readHeld(dir, clock.now(), join instanceof VouchError ? undefined : join);
    if (hasExpired(held, clock.now())) return undefined;
    if (join instanceof VouchError || !isNewToken(join, held.state.usedToken)) return held;
    const { spiffeId } = held.delivered;
    notice(`${dir} holds a certificate of ${spiffeId} that another join token made; enrolling with this one`);
    return undefined;
  } catch (error) {
    if (!(error instanceof VouchError)) throw error;
    return undefined;
  }
}

/** A join file that is gone does no harm while a certificate is there; one that others can read always does. */
function joinFileOrProblem(path: string): JoinFile | VouchError {
  try {
    return readJoinFile(path);
  } catch (error) {
    if (error instanceof VouchError && error.code === 'config-invalid') return error;
    throw error;
  }
}

function requireJoin(join: JoinFile | VouchError): JoinFile {
  if (join instanceof VouchError) throw join;
  return join;
}

function isNewToken(join: JoinFile, usedToken: string): boolean {
  return tokenDigest(join.token) !== usedToken;
}
