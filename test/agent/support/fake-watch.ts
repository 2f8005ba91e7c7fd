import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import type { CrlEventJson } from '../../../src/wire/watch.ts';
import { encodeEvent } from '../../../src/watch/encoding.ts';
import { CrlList } from '../../../src/x509/crl-list.ts';
import { makePatch } from '../../../src/x509/crl-patch.ts';
import type { CrlBytes } from '../../../src/x509/crl-tbs.ts';
import { parseCrl } from '../../../src/x509/crl.ts';
import type { FakeServer } from './fake-server.ts';

/** The streams of a fake server. */
export class FakeWatch {
  readonly open = new Set<ServerResponse>();
  /** Headers of each that came. */
  readonly asked: IncomingHttpHeaders[] = [];
  /** What each is told at first. */
  greeting = ':\n\n';

  constructor(server: FakeServer) {
    server.watch = (request, response) => {
      this.asked.push(request.headers);
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(this.greeting);
      this.open.add(response);
      response.once('close', () => this.open.delete(response));
    };
  }

  tell(type: string, data: object, id?: number): void {
    for (const response of this.open) response.write(encodeEvent(type, data, id));
  }

  /** Ends every stream, or cuts it. */
  end(how: 'end' | 'cut' = 'end'): void {
    for (const response of this.open) {
      if (how === 'end') response.end();
      else response.socket?.destroy();
    }
  }
}

/** The event that tells of `after`, with the patch from `before` where there is one. */
export async function crlEvent(
  after: Buffer,
  url: string,
  before?: Buffer,
): Promise<CrlEventJson & { patch?: NonNullable<CrlEventJson['patch']> }> {
  const { authorityKeyId: issuerKeyId = '', crlNumber = 0n, deltaBase } = parseCrl(after);
  const scope = deltaBase === undefined ? 'full' : 'delta';
  const event = { issuerKeyId, scope, crlNumber: Number(crlNumber), from: null, url } as const;
  const patch = before && (await makePatch(inPieces(before), inPieces(after), 1e6));
  if (!patch) return event;
  const base64 = (bytes: Buffer): string => bytes.toString('base64');
  return {
    ...event,
    from: Number(parseCrl(before).crlNumber),
    patch: {
      head: base64(patch.head),
      added: base64(patch.added),
      removed: [...patch.removed],
      tail: base64(patch.tail),
    },
  };
}

function inPieces(der: Buffer): CrlBytes {
  const { bytes } = parseCrl(der).entries;
  if (bytes.length === 0) return { head: der, list: CrlList.empty, tail: Buffer.alloc(0) };
  const start = bytes.byteOffset - der.byteOffset;
  return {
    head: der.subarray(0, start),
    list: CrlList.read([bytes]),
    tail: der.subarray(start + bytes.length),
  };
}
