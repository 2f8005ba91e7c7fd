import { assert, type Bed, type Check, failsWith, Skipped, status } from './check.ts';
import {
  CallFailure,
  type StreamMethod,
  type UnaryMethod,
  type WorkloadClient,
  type X509SvidResponse,
  withHeader,
} from './client.ts';
import { probe } from './probe.ts';

const streams: StreamMethod[] = ['FetchX509SVID', 'FetchX509Bundles', 'FetchJWTBundles'];
const unary: [UnaryMethod, Record<string, unknown>][] = [
  ['FetchJWTSVID', { audience: ['conformance'] }],
  ['ValidateJWTSVID', { audience: 'conformance', svid: 'a.b.c' }],
];

/** Each method of the two mandatory profiles with these headers. */
function everyCall(client: WorkloadClient, headers: ReturnType<typeof withHeader>): Promise<unknown>[] {
  return [
    ...streams.map((method) => client.first(method, headers)),
    ...unary.map(([method, request]) => client.unary(method, request, headers)),
  ];
}

async function refusesHeader({ client }: Bed, ...values: string[]): Promise<void> {
  const headers = withHeader(...values);
  if (values.length === 0) headers.remove('workload.spiffe.io');
  await Promise.all(everyCall(client, headers).map((call) => failsWith(status.INVALID_ARGUMENT, call)));
}

export const endpointChecks: Check[] = [
  {
    id: 'endpoint-header-missing',
    cites: 'WE §3, §6',
    title: 'every method without the security header: InvalidArgument',
    run: (bed) => refusesHeader(bed),
  },
  ...['True', 'TRUE', '1', 'yes', ''].map((value) => ({
    id: `endpoint-header-${value || 'empty'}`,
    cites: 'WE §3',
    title: `the security header with the value "${value}": InvalidArgument`,
    run: (bed: Bed) => refusesHeader(bed, value),
  })),
  {
    id: 'endpoint-header-twice',
    cites: 'WE §3',
    title: 'the security header twice: InvalidArgument',
    run: (bed) => refusesHeader(bed, 'true', 'true'),
  },
  {
    id: 'endpoint-plaintext',
    cites: 'WE §3.1, §5',
    title: 'neither TLS nor credentials are demanded',
    run: async ({ client }) => void (await client.first('FetchX509SVID')),
  },
  {
    id: 'endpoint-unknown-method',
    cites: 'WE App. A; WA §2',
    title: 'a method that is not of the standard: Unimplemented',
    run: async ({ client }) => void (await failsWith(status.UNIMPLEMENTED, client.unary('FetchNothing', {}))),
  },
  {
    id: 'endpoint-no-identity',
    cites: 'WE §6; WA §5.2.1, §5.2.2, §6.2.1, §6.2.2',
    title: 'a caller without identity: PermissionDenied',
    differs: 'SPIRE serves FetchX509Bundles to such callers where allow_unauthenticated_verifiers is set',
    run: async ({ socket, withoutIdentityUid }) => {
      if (withoutIdentityUid === undefined) throw new Skipped('needs --without-identity-uid, and root');
      for (const method of [...streams, 'FetchJWTSVID']) {
        const audience = method === 'FetchJWTSVID' ? Buffer.from('\n\x01a') : Buffer.alloc(0);
        const answer = await probe(socket, withoutIdentityUid, method, audience);
        assert.equal(answer.code, status.PERMISSION_DENIED, `${method}: ${JSON.stringify(answer)}`);
        assert.equal(answer.bytes, 0, `${method} sent a message`);
      }
    },
  },
  {
    id: 'endpoint-unknown-fields',
    cites: 'WA §3 (Protocol Buffers)',
    title: 'a field of a request that the server does not know is passed over',
    run: async ({ socket }) => {
      // Field 99, a varint.
      const answer = await probe(socket, undefined, 'FetchX509SVID', Buffer.from([0x98, 0x06, 0x01]));
      assert.ok(answer.bytes > 0, JSON.stringify(answer));
    },
  },
  {
    id: 'endpoint-content-type',
    cites: 'gRPC over HTTP/2',
    title: 'application/grpc+proto is taken; what is no gRPC is not served',
    run: async ({ socket }) => {
      const proto = { 'content-type': 'application/grpc+proto' };
      assert.ok((await probe(socket, undefined, 'FetchX509SVID', Buffer.alloc(0), proto)).bytes > 0);
      const json = { 'content-type': 'application/json' };
      assert.equal((await probe(socket, undefined, 'FetchX509SVID', Buffer.alloc(0), json)).bytes, 0);
    },
  },
  {
    id: 'endpoint-many-streams',
    cites: 'WA §4.2',
    title: 'a hundred streams on one connection are all told',
    run: async ({ client }) => {
      const all = Array.from({ length: 100 }, () => client.stream<X509SvidResponse>('FetchX509SVID'));
      try {
        for (const message of await Promise.all(all.map((one) => one.next())))
          assert.ok(message.svids.length > 0);
      } finally {
        for (const one of all) one.cancel();
      }
    },
  },
  {
    id: 'endpoint-cancel',
    cites: 'WA §4.2',
    title: 'a stream that its client cancels leaves the others alone',
    run: async ({ client }) => {
      const [first, second] = [client.stream('FetchX509SVID'), client.stream('FetchX509SVID')];
      await Promise.all([first.next(), second.next()]);
      first.cancel();
      assert.ok(await client.first('FetchX509SVID'));
      await quiet(second, 500);
      second.cancel();
    },
  },
  {
    id: 'wit-optional',
    cites: 'WA §7',
    title: 'the WIT-SVID profile works, or is Unimplemented',
    run: async ({ client }) => {
      for (const method of ['FetchWITSVID', 'FetchWITBundles'] as const)
        await client.first(method).catch((error: unknown) => {
          if (!(error instanceof CallFailure) || error.code !== status.UNIMPLEMENTED) throw error;
        });
    },
  },
];

/** Asserts that a stream neither says anything nor ends for so long. */
export async function quiet(stream: { next(ms: number): Promise<unknown> }, ms: number): Promise<void> {
  await failsWith(status.DEADLINE_EXCEEDED, stream.next(ms));
}
