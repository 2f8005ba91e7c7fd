import { type KeyObject, sign } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import type { SpiffeId } from '../core/spiffe-id.ts';
import type { Checkpoint } from '../log/checkpoint.ts';
import {
  bindingBytes,
  bindingInput,
  type CertificateAnswer,
  certificateAnswerSchema,
  channelBindingLabel,
  type EnrollRequestJson,
  enrollmentPaths,
  evidenceBytes,
  type RenewRequestJson,
  renewalEvidenceBytes,
} from '../wire/enrollment.ts';
import { algorithmFor, digestOf } from '../x509/algorithm.ts';
import { skewOf } from './clock-skew.ts';
import { connectServer, type ServerAddress } from './connection.ts';
import { exchange } from './exchange.ts';
import type { PendingKey } from './pending-key.ts';

/** What asks for a certificate: a join token, or the certificate to be renewed. */
export type Credential =
  | { type: 'token'; token: string }
  /** PEM chain and key for mTLS, DER of the leaf, and the identity that must stay. */
  | { type: 'certificate'; cert: string; key: string; leafDer: Buffer; spiffeId: SpiffeId };

/** The evidence that the binding signs over, and that tells one errand from another. */
export function evidenceOf(credential: Credential): Buffer {
  return credential.type === 'token'
    ? evidenceBytes(tokenEvidence(credential.token))
    : renewalEvidenceBytes(credential.leafDer);
}

/**
 * One request over one fresh connection: the server is checked, then the binding is made for this connection, then the
 * secret is written. The answer has the right form, nothing more. Throws as `connectServer` and `exchange` do.
 */
export async function ask(
  request: {
    address: ServerAddress;
    /** DER. */
    root: Buffer;
    credential: Credential;
    pending: PendingKey;
    /** The tree the answer must be consistent with; its note tells a server that was set back (I10). */
    head: Checkpoint | undefined;
  },
  parts: { clock: Clock; signal: AbortSignal; awaiting?: () => void },
): Promise<{ answer: CertificateAnswer; skewMs: number }> {
  const { address, credential, pending, head } = request;
  const client =
    credential.type === 'certificate' ? { cert: credential.cert, key: credential.key } : undefined;
  const socket = await connectServer(address, request.root, parts, client);
  const body: RenewRequestJson = {
    csr: pending.csr.toString('base64'),
    binding: { signature: bindingSignature(socket, evidenceOf(credential), pending.key) },
    ...(head === undefined ? {} : { treeSize: head.treeSize, checkpoint: head.note }),
  };
  const sentMs = parts.clock.now();
  const answered = exchange(
    socket,
    address.server,
    { method: 'POST', ...pathAndBody(credential, body) },
    parts,
  );
  // What is told may take its time: the request is written before.
  if (parts.awaiting) setImmediate(parts.awaiting);
  const json = await answered;
  const parsed = certificateAnswerSchema.safeParse(json);
  if (!parsed.success)
    throw new VouchError(
      'denied-server',
      `the answer of ${address.server} is not one that this version understands`,
      {
        cause: parsed.error,
      },
    );
  return { answer: parsed.data, skewMs: skewOf(parsed.data.time, sentMs, parts.clock.now()) };
}

function pathAndBody(
  credential: Credential,
  body: RenewRequestJson,
): { path: string; body: RenewRequestJson | EnrollRequestJson } {
  if (credential.type === 'certificate') return { path: enrollmentPaths.renew, body };
  return { path: enrollmentPaths.enroll, body: { evidence: tokenEvidence(credential.token), ...body } };
}

function tokenEvidence(token: string): { type: string; data: string } {
  return { type: 'join_token', data: token };
}

function bindingSignature(socket: TLSSocket, evidence: Buffer, key: KeyObject): string {
  const exporter = socket.exportKeyingMaterial(bindingBytes, channelBindingLabel, Buffer.alloc(0));
  return sign(digestOf[algorithmFor(key)], bindingInput(exporter, evidence), key).toString('base64');
}
