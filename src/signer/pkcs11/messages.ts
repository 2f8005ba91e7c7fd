import type { HsmKey } from '../hsm.ts';
import type { Recovery } from './errors.ts';
import type { TokenAddress } from './token.ts';

/** What a worker thread is started with. */
export interface WorkerStart {
  address: TokenAddress;
  keys: readonly HsmKey[];
  /** How to log in: the first worker does, and whichever finds the login gone. */
  login: { pinFile: string; refusedFile: string };
  /** Memory of `SharedLogin`, the same for all workers. */
  sharedLogin: SharedArrayBuffer;
  /** The first worker logs in and proves the keys; the others join its login. */
  first: boolean;
  /** One Int32, odd while a PKCS#11 call is under way. */
  progress: SharedArrayBuffer;
}

/** A signature to make; `key` is the index in `WorkerStart.keys`, `input` what C_Sign takes. */
export interface SignJob {
  id: number;
  key: number;
  input: Uint8Array;
}

/** A guard to be read or replaced. */
export type GuardRequest =
  | { kind: 'read-guards'; id: number }
  | { kind: 'replace-guard'; id: number; value: Uint8Array; obsolete: Uint8Array[] };

/** To the worker. */
export type WorkerRequest =
  /** Opens a session; again after `failed`. */
  | { kind: 'open' }
  /** Asks the token after the session. */
  | { kind: 'probe' }
  | { kind: 'sign'; jobs: SignJob[] }
  | GuardRequest;

/** From the worker. After `failed` it has no session, until it is told to open one; what it had not answered is not done. */
export type WorkerReply =
  | { kind: 'ready' }
  | { kind: 'probed' }
  | { kind: 'failed'; code: string; detail: string; recovery: Recovery }
  /** A call failed and was made again, after a new session or a login. */
  | { kind: 'mended'; by: Recovery; problem: string }
  | { kind: 'signed'; signatures: { id: number; signature: Uint8Array }[]; tookMs: number }
  /** Those there are; after a replacement those that should be gone and may not be. */
  | { kind: 'guards'; id: number; values: Uint8Array[] }
  /** The token took or showed no guard; it signs all the same. */
  | { kind: 'guard-failed'; id: number; code: string; detail: string };

/** The bytes in memory of their own: posting a part of a buffer would clone all of the buffer around it. */
export function exact(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}
