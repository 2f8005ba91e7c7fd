import { constants, verify } from 'node:crypto';
import { VouchError } from '../core/errors.ts';
import { bindingInput } from '../wire/enrollment.ts';
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
  if (!verifies(key, bindingInput(channel, evidence), signature))
    throw new VouchError(
      'request-binding',
      "the binding is not a signature by the CSR's key over this connection and this evidence",
    );
}

function verifies(key: PublicKeyInfo, signed: Buffer, signature: Buffer): boolean {
  switch (key.type) {
    case 'ec-p256':
      return verify('sha256', signed, key.key, signature);
    case 'ec-p384':
      return verify('sha384', signed, key.key, signature);
    case 'ed25519':
      return verify(null, signed, key.key, signature);
    default:
      return verify('sha256', signed, { key: key.key, padding: constants.RSA_PKCS1_PADDING }, signature);
  }
}
