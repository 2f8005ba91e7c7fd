import assert from 'node:assert/strict';
import { status } from '@grpc/grpc-js';
import { CallFailure, type WorkloadClient } from './client.ts';

/** The agent under test and what the caller can do to it. */
export interface Bed {
  socket: string;
  client: WorkloadClient;
  /** Makes the agent renew what it serves to us. */
  rotate: (() => Promise<void>) | undefined;
  /** A user to whom the agent gives no identity. */
  withoutIdentityUid: number | undefined;
}

/** One demand of the standard. */
export interface Check {
  id: string;
  /** WE: SPIFFE_Workload_Endpoint.md, WA: SPIFFE_Workload_API.md, X: X509-SVID.md, J: JWT-SVID.md, B: SPIFFE_Trust_Domain_and_Bundle.md, I: SPIFFE-ID.md. */
  cites: string;
  title: string;
  /** Where another agent is known to differ. */
  differs?: string;
  /** Throws Skipped where it cannot tell, anything else where the agent fails. */
  run(bed: Bed): Promise<void>;
}

export class Skipped extends Error {}

export { assert, status };

/** Asserts that a call fails with this status. Returns its message. */
export async function failsWith(code: status, call: Promise<unknown>): Promise<string> {
  const failure = await call.then(
    () => assert.fail(`answered, where ${status[code]} is due`),
    (error: unknown) => error,
  );
  assert.ok(failure instanceof CallFailure, String(failure));
  assert.equal(status[failure.code], status[code], failure.details);
  return failure.details;
}
