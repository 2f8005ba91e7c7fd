import type http from 'node:http';
import type { TLSSocket } from 'node:tls';
import { parseCertificate } from '../x509/certificate.ts';

/** The open TLS connections of clients that showed a certificate of ours, by its serial: so that they end with it. */
export class ClientConnections {
  readonly #bySerial = new Map<string, Set<TLSSocket>>();

  /** Keeps every connection that the server takes from now on, until it closes. */
  follow(server: http.Server): void {
    server.on('secureConnection', (socket: TLSSocket) => {
      const serial = socket.authorized
        ? socket.getPeerX509Certificate()?.serialNumber.toLowerCase()
        : undefined;
      if (serial !== undefined) this.#keep(serial, socket);
    });
  }

  /** Cuts those of a certificate at once, whatever they are in the middle of. */
  cut({ issuerKeyId, serial }: { issuerKeyId: string; serial: string }): void {
    for (const socket of this.#bySerial.get(serial) ?? [])
      if (issuerOf(socket) === issuerKeyId) socket.destroy();
  }

  #keep(serial: string, socket: TLSSocket): void {
    const mine = this.#bySerial.get(serial) ?? new Set();
    this.#bySerial.set(serial, mine.add(socket));
    socket.once('close', () => {
      mine.delete(socket);
      if (mine.size === 0 && this.#bySerial.get(serial) === mine) this.#bySerial.delete(serial);
    });
  }
}

function issuerOf(socket: TLSSocket): string | undefined {
  const der = socket.getPeerX509Certificate()?.raw;
  return der && parseCertificate(der).authorityKeyId;
}
