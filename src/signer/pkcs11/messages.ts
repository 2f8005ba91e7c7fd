import type { HsmKey } from '../hsm.ts';
import type { TokenAddress } from './token.ts';

/** What a worker thread is started with. */
export interface WorkerStart {
  address: TokenAddress;
  keys: readonly HsmKey[];
  /** The first worker logs in, proves the keys and keeps the guards; the others join its login. */
  login: { pinFile: string; refusedFile: string } | undefined;
  /** One Int32, odd while a PKCS#11 call is under way. */
  progress: SharedArrayBuffer;
}

/** A signature to make; `key` is the index in `WorkerStart.keys`, `input` what C_Sign takes. */
export interface SignJob {
  id: number;
  key: number;
  input: Uint8Array;
}

/** To the worker. */
export type WorkerRequest =
  | { kind: 'sign'; jobs: SignJob[] }
  | { kind: 'read-guards' }
  | { kind: 'replace-guard'; value: Uint8Array; obsolete: Uint8Array[] };

/** From the worker. After `failed` it does nothing any more. */
export type WorkerReply =
  | { kind: 'ready' }
  | { kind: 'failed'; code: string; detail: string; recovery: string }
  | { kind: 'signed'; signatures: { id: number; signature: Uint8Array }[] }
  | { kind: 'guards'; values: Uint8Array[] }
  | { kind: 'guard-replaced' };

/** The bytes in memory of their own: posting a part of a buffer would clone all of the buffer around it. */
export function exact(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}
