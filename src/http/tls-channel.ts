import type { Request } from 'express';
import { TLSSocket } from 'node:tls';
import { VouchError } from '../core/errors.ts';
import { bindingBytes, channelBindingLabel } from '../wire/enrollment.ts';
import type { Channel } from '../enrollment/enroll.ts';

/** The TLS side of a request: where it came from, its exporter, and the client certificate as DER. */
export function channelOf(request: Request, requestId: string): Channel {
  const socket = tlsSocketOf(request);
  return {
    peerAddress: unmapped(socket.remoteAddress ?? ''),
    exporter: () => socket.exportKeyingMaterial(bindingBytes, channelBindingLabel, Buffer.alloc(0)),
    requestId,
  };
}

/** What TLS knows of a client. */
export interface ClientCertificate {
  /** The leaf alone, never the whole chain. */
  der: Buffer | undefined;
  /** Its chain leads to our root, and all of it is valid now. */
  verified: boolean;
  /** Not verified, by its dates as far as TLS looked. */
  expired: boolean;
}

/** The client's certificate and what TLS made of its chain. */
export function clientCertificateOf(request: Request): ClientCertificate {
  const socket = tlsSocketOf(request);
  const der = socket.getPeerX509Certificate()?.raw;
  const expired = String(socket.authorizationError) === 'CERT_HAS_EXPIRED';
  return { der, verified: der !== undefined && socket.authorized, expired };
}

function tlsSocketOf(request: Request): TLSSocket {
  if (request.socket instanceof TLSSocket) return request.socket;
  throw new VouchError('internal', 'this path is served over TLS only');
}

/** `::ffff:10.0.0.1` as `10.0.0.1`. */
function unmapped(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice('::ffff:'.length) : address;
}
