import type { Request, Response } from 'express';
import { TLSSocket } from 'node:tls';
import { VouchError } from '../core/errors.ts';
import { bindingBytes, channelBindingLabel } from '../wire/enrollment.ts';
import type { Channel } from '../enrollment/enroll.ts';
import { unmapped } from './address-group.ts';
import { noteAsking, requestIdOf } from './request-context.ts';

/** The TLS side of a request: where it came from, its exporter, and the client certificate as DER. */
export function channelOf(request: Request, response: Response): Channel {
  const socket = tlsSocketOf(request);
  return {
    peerAddress: unmapped(socket.remoteAddress ?? ''),
    exporter: () => socket.exportKeyingMaterial(bindingBytes, channelBindingLabel, Buffer.alloc(0)),
    requestId: requestIdOf(response),
    learned: (who) => noteAsking(response, who),
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
