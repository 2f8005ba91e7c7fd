import { hash } from 'node:crypto';
import { join } from 'node:path';
import type { Clock } from '../core/clock.ts';
import { asVouchError, type VouchError } from '../core/errors.ts';
import type { SignatureAlgorithm } from '../x509/algorithm.ts';
import { writeAtomically } from './atomic-file.ts';
import { encodeAuthority, readAuthority, type SignerAuthority } from './authority-file.ts';
import { exitCodeFor, exitCodes } from './exit-codes.ts';
import { Floor } from './floor.ts';
import { fileGuards } from './guard.ts';
import type { Hsm, HsmConfig, HsmKey } from './hsm.ts';
import { policyIssuer } from './policy-issuer.ts';
import { refusedPinFile } from './refused-pin.ts';
import type { SignerLog } from './signer-log.ts';

/** The part of the configuration that the signer reads. */
export interface SignerConfig {
  stateDir: string;
  /** Its folder there; default `signer`. */
  folder?: string | undefined;
  hsm: HsmConfig;
  /** Sessions that sign in parallel; default 2. */
  workers?: number | undefined;
  /** A PKCS#11 call that takes longer hangs: two thirds of the deadline for a request; default 2000. */
  hangMs?: number | undefined;
  /** Longest start of the token; default 15 s. */
  startMs?: number | undefined;
}

/** What the signer process holds for as long as it lives. */
export interface SignerRuntime {
  authority: SignerAuthority;
  hsm: Hsm;
  floor: Floor;
  /** Goes over to a new log, for good: authority and marks are that log's from then on. */
  openLog(over: SignerAuthority): Promise<void>;
}

/** Where authority file and floor are. */
export function signerFolder({ stateDir, folder = 'signer' }: SignerConfig): string {
  return join(stateDir, folder);
}

/** Opens a token; `onFault` is called when a new process is needed. */
export type OpenHsm = (request: {
  hsm: HsmConfig;
  keys: readonly HsmKey[];
  refusedFile: string;
  onFault: (fault: { error: VouchError; hangs: boolean }) => void;
}) => Promise<Hsm>;

/** What a runtime is opened from. */
export interface RuntimeParts {
  config: SignerConfig;
  openHsm: OpenHsm;
  clock: Clock;
  log: SignerLog;
  /** Called when nothing may be signed any more by this process. */
  onFault: (fault: { error: VouchError; hangs: boolean }) => void;
}

/** Opens authority file, token and marks. Rejects with `config-…` or `integrity-state`. */
export async function openRuntime(parts: RuntimeParts): Promise<SignerRuntime> {
  const folder = signerFolder(parts.config);
  const authorityFile = join(folder, 'authority.json');
  const authority = readAuthority(authorityFile);
  const hsm = await parts.openHsm({
    hsm: parts.config.hsm,
    keys: authorityKeys(authority),
    refusedFile: refusedPinFile(folder),
    onFault: parts.onFault,
  });
  const runtime: SignerRuntime = {
    authority,
    hsm,
    floor: await openFloor(parts, folder, authority, hsm),
    openLog: async (over) => {
      runtime.floor.stop();
      await runtime.floor.flush();
      // First: marks of a log that authority.json does not name would read as a state put back.
      await writeAtomically(authorityFile, encodeAuthority(over));
      runtime.floor = await openFloor(parts, folder, over, hsm);
      runtime.authority = over;
    },
  };
  return runtime;
}

function openFloor(
  parts: RuntimeParts,
  folder: string,
  authority: SignerAuthority,
  hsm: Hsm,
): Promise<Floor> {
  const { rollbackMark, logOrigin, logKey } = authority;
  return Floor.open({
    file: join(folder, 'floor.json'),
    log: { origin: logOrigin, logKeySha256: hash('sha256', logKey.publicKeySpki, 'hex') },
    guards: rollbackMark === 'token' ? hsm.guards : fileGuards(rollbackMark.file),
    clock: parts.clock,
    onFailure: (cause, stale) => {
      const error = asVouchError(cause);
      parts.log('error', 'a rollback mark could not be written', { problem: error.detail });
      if (stale) parts.onFault({ error, hangs: false });
    },
  });
}

/** Every key that is proven at the start: each issuer's by its certificate, the log's, what answers OCSP and what signs JWT-SVIDs. */
function authorityKeys(authority: SignerAuthority): HsmKey[] {
  const issuers = authority.issuers.map((issuer) => {
    const { ckaId, algorithm, spki } = policyIssuer(issuer);
    return { ckaId, algorithm, publicKeySpki: spki };
  });
  const own = [authority.ocspKey, authority.jwtKey].filter((key) => key !== undefined);
  const { ckaId, algorithm, publicKeySpki } = authority.logKey;
  const logAlgorithm: SignatureAlgorithm = algorithm === 'ed25519' ? 'ed25519' : 'ecdsa-sha256';
  return [...issuers, { ckaId, algorithm: logAlgorithm, publicKeySpki }, ...own];
}

/** Ends the process. A thread stuck in the module would hold up an orderly exit for ever. */
export function endProcess(reason: { error: VouchError; hangs: boolean } | undefined): never {
  if (reason?.hangs) process.kill(process.pid, 'SIGKILL');
  process.exit(reason ? exitCodeFor(reason.error) : exitCodes.stopped);
}
