import { VouchError } from '../core/errors.ts';
import { bindingInput } from '../wire/enrollment.ts';
import { algorithmFor, verifySignature } from '../x509/algorithm.ts';
import type { PublicKeyInfo } from '../x509/public-key.ts';

/**
 * Proof that whoever holds the CSR's key also holds this end of the connection and this evidence. `channel`: the TLS
 * exporter of this connection, or a redeemed nonce. Throws `request-binding`.
 */
export function verifyBinding(
  key: PublicKeyInfo,
  channel: Buffer,
  evidence: Buffer,
  signature: Buffer,
): void {
  if (!verifySignature(algorithmFor(key.key), key.key, bindingInput(channel, evidence), signature))
    throw new VouchError(
      'request-binding',
      "the binding is not a signature by the CSR's key over this connection and this evidence",
    );
}
