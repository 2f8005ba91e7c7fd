import type { Request, RequestHandler, Response } from 'express';
import { standingOf } from '../enrollment/client-certificate.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import type { Issuers } from '../issuance/issuers.ts';
import type { StoreReader } from '../store/port.ts';
import type { WatchHub } from '../watch/hub.ts';
import type { Sink } from '../watch/streams.ts';
import { releaseAddress } from './connection-bounds.ts';
import { noteAsking } from './request-context.ts';
import { clientCertificateOf } from './tls-channel.ts';

/** What the route works with. */
export interface WatchRouteParts {
  hub: WatchHub;
  store: Pick<StoreReader, 'certificate'>;
  clockGuard: Pick<ClockGuard, 'steadyTimeMs'>;
  issuance: { issuers: Pick<Issuers, 'isRevoked'> };
}

/** How long an ended stream may take to read its end. */
const lingerMs = 500;
/** After so long without a byte the kernel asks whether the other end is there. */
const keepAliveMs = 15_000;

/**
 * `GET /v1/watch`: server-sent events for as long as the certificate that was shown counts. Revocations are told also
 * while the clock is in doubt.
 */
export function watchRoute({ hub, store, clockGuard, issuance }: WatchRouteParts): RequestHandler {
  return (request, response) => {
    const standing = standingOf(
      store,
      clientCertificateOf(request),
      clockGuard.steadyTimeMs(),
      issuance.issuers,
    );
    noteAsking(response, { spiffeId: standing.spiffeId });
    response.setHeader('Content-Type', 'text/event-stream');
    // The body is as long as the connection: no event is framed twice.
    response.setHeader('Connection', 'close');
    response.removeHeader('Transfer-Encoding');
    const close = hub.open(standing, sinkOf(request, response), lastEventId(request));
    response.once('close', close);
    // From here on it is no stranger's connection: silence is what it has to be silent about.
    request.socket.setTimeout(0).setKeepAlive(true, keepAliveMs);
    releaseAddress(request.socket);
  };
}

/** What is no index of ours is as good as none. */
function lastEventId({ headers }: Request): number | undefined {
  const text = headers['last-event-id'];
  return typeof text === 'string' && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

function sinkOf({ socket }: Request, response: Response): Sink {
  return {
    write: (bytes) => void response.write(bytes),
    get unread() {
      return response.writableLength;
    },
    end: (last) => {
      response.end(last);
      setTimeout(() => socket.destroy(), lingerMs).unref();
    },
    cut: () => void socket.destroy(),
  };
}
