import { afterEach, describe, expect, test } from 'vitest';
import {
  type Call,
  frame,
  GrpcError,
  GrpcStatus,
  type Method,
  type Out,
} from '../../../src/agent/grpc/server.ts';
import type { Frame } from '../../../src/agent/grpc/frame.ts';
import { bytesField, mapField } from '../../../src/agent/grpc/protobuf.ts';
import { FakeAuthority } from '../../fakes/workloads.ts';
import { ownEntries, ownSelectors, type WorkloadApiBed, workloadApiBed } from '../../support/workload-api.ts';
import { WorkloadClient } from './client.ts';
import { checks, type Result, runKit } from './kit.ts';

const isRoot = process.getuid?.() === 0;
let bed: WorkloadApiBed;

type Bend = NonNullable<Parameters<typeof workloadApiBed>[0]>;

async function kitOn(options: Bend, ids?: readonly string[]): Promise<Result[]> {
  bed = await workloadApiBed(options);
  const client = new WorkloadClient(bed.socket);
  try {
    return await runKit(
      {
        socket: bed.socket,
        client,
        rotate: () => bed.workloads.rotate(),
        withoutIdentityUid: isRoot ? 65_534 : undefined,
      },
      checks.filter(({ id }) => ids === undefined || ids.includes(id)),
    );
  } finally {
    client.close();
  }
}

afterEach(() => bed.close());

test('our Workload API passes the kit', async () => {
  const results = await kitOn({});
  expect(results.filter(({ outcome }) => outcome === 'failed')).toEqual([]);
  const skipped = results.filter(({ outcome }) => outcome === 'skipped').map(({ id }) => id);
  expect(skipped).toEqual([...(isRoot ? [] : ['endpoint-no-identity']), 'x509-federated']);
});

const bytesOf = (frame: Buffer | Frame): Buffer => (Buffer.isBuffer(frame) ? frame : Buffer.concat(frame));

/** The method with what it sends bent. */
function sending(method: Method, bend: (bytes: Buffer, send: (bytes: Buffer) => void) => void): Method {
  if (method.kind === 'unary')
    return {
      ...method,
      call: async (request, call) => {
        let bent = Buffer.alloc(0);
        bend(bytesOf(await method.call(request, call)), (bytes) => {
          bent = Buffer.from(bytes);
        });
        return bent;
      },
    };
  if (method.kind === 'bidi') return method;
  return {
    ...method,
    open: (request, call, out) =>
      method.open(request, call, {
        get unread() {
          return out.unread;
        },
        send: (sent) => bend(bytesOf(sent).subarray(5), (bent) => out.send(frame(bent))),
        end: (error) => out.end(error),
      } satisfies Out),
  };
}

/** The method for callers whose headers are good whatever they are, or whose failure is another. */
function bentCall(method: Method, bend: { trusting?: boolean; status?: GrpcStatus }): Method {
  if (method.kind === 'bidi') return method;
  const headers = (given: Call['headers']) =>
    bend.trusting ? { ...given, 'workload.spiffe.io': 'true' } : given;
  const failing = (error: unknown): never => {
    throw error instanceof GrpcError && bend.status !== undefined
      ? new GrpcError(bend.status, 'bent')
      : error;
  };
  if (method.kind === 'unary')
    return {
      kind: 'unary',
      call: (request, call) =>
        method.call(request, { ...call, headers: headers(call.headers) }).catch(failing),
    };
  return {
    kind: 'stream',
    open: (request, call, out) =>
      method.open(request, { ...call, headers: headers(call.headers) }, out).catch(failing),
  };
}

const only =
  (wanted: string, bend: (method: Method) => Method) =>
  (name: string, method: Method): Method =>
    name === wanted ? bend(method) : method;

const unary = (answer: Buffer): Method => ({ kind: 'unary', call: async () => answer });

describe('the kit goes red where', () => {
  const otherKey = async () =>
    (await (await FakeAuthority.make()).svid(ownEntries[0] as (typeof ownEntries)[0])).keyPkcs8;

  test.each<[string, Bend, string[]]>([
    [
      'the header is not looked at',
      { replace: (_name, method) => bentCall(method, { trusting: true }) },
      ['endpoint-header-missing', 'endpoint-header-True', 'endpoint-header-twice'],
    ],
    [
      'one method alone does not look at it',
      { replace: only('FetchJWTBundles', (method) => bentCall(method, { trusting: true })) },
      ['endpoint-header-missing'],
    ],
    [
      'a missing header is Unauthenticated or the like',
      { replace: (_name, method) => bentCall(method, { status: GrpcStatus.unavailable }) },
      ['endpoint-header-missing', 'jwt-other-identity', 'jwt-audience-required'],
    ],
    [
      'a message comes twice',
      {
        replace: only('FetchX509SVID', (method) =>
          sending(method, (bytes, send) => [1, 2].forEach(() => send(bytes))),
        ),
      },
      ['x509-no-bursts'],
    ],
    [
      'only the first message has everything',
      {
        replace: only('FetchX509SVID', (method) => {
          let sent = 0;
          return sending(method, (bytes, send) => send(sent++ < 5 ? bytes : bytesField(1, '')));
        }),
      },
      ['x509-rotation'],
    ],
    [
      'nothing is sent',
      {
        replace: only('FetchX509SVID', (method) => sending(method, (_bytes, send) => send(Buffer.alloc(0)))),
      },
      ['x509-mandatory-fields'],
    ],
    [
      'two SVIDs have one hint',
      {
        replace: only('FetchX509SVID', (method) =>
          sending(method, (bytes, send) => send(Buffer.concat([bytes, bytes]))),
        ),
      },
      ['x509-hints'],
    ],
    [
      'the bundle is empty, or of another trust domain',
      {
        replace: only('FetchX509Bundles', (method) =>
          sending(method, (_bytes, send) => send(mapField(2, 'spiffe://other.example', Buffer.alloc(0)))),
        ),
      },
      ['x509-bundles', 'x509-bundles-crl'],
    ],
    [
      'the JWT bundle has other keys',
      {
        replace: only('FetchJWTBundles', (method) =>
          sending(method, (_bytes, send) =>
            send(
              mapField(
                1,
                'spiffe://fake.example',
                Buffer.from('{"keys":[{"use":"x509-svid","kty":"EC","kid":"1"}]}'),
              ),
            ),
          ),
        ),
      },
      ['jwt-bundles', 'jwt-signature'],
    ],
    [
      'any JWT is good',
      { validate: () => ({ spiffeId: 'spiffe://fake.example/web', claims: {} }) },
      [
        'jwt-validate',
        'jwt-validate-audience',
        'jwt-validate-tampered',
        'jwt-validate-unsigned',
        'jwt-validate-hmac',
        'jwt-validate-garbage',
      ],
    ],
    [
      'every JWT-SVID is of the default identity',
      {
        replace: only('FetchJWTSVID', () =>
          unary(
            bytesField(
              1,
              Buffer.concat([bytesField(1, 'spiffe://fake.example/web'), bytesField(2, 'a.b.c')]),
            ),
          ),
        ),
      },
      ['jwt-all-identities', 'jwt-other-identity', 'jwt-audience-required', 'jwt-claims', 'jwt-header'],
    ],
    [
      'every caller is somebody',
      { attest: async () => new Set(ownSelectors) },
      isRoot ? ['endpoint-no-identity'] : [],
    ],
  ])(
    '%s',
    async (_what, bend, red) => {
      const failed = (await kitOn(bend, red)).filter(({ outcome }) => outcome === 'failed');
      expect(failed.map(({ id }) => id).sort()).toEqual([...red].sort());
    },
    60_000,
  );

  test.each<[string, (svid: Bent, bed: WorkloadApiBed) => Promise<void> | void, string[]]>([
    [
      'the key is of another',
      async (svid) => {
        svid.keyPkcs8 = await otherKey();
      },
      ['x509-key'],
    ],
    [
      'the issuer is first',
      (svid) => {
        svid.chain = [...svid.chain].reverse();
      },
      ['x509-chain', 'x509-key', 'x509-leaf-profile', 'x509-spiffe-id'],
    ],
    [
      'the issuer is missing',
      (svid) => {
        svid.chain = svid.chain.slice(0, 1);
      },
      ['x509-chain'],
    ],
    [
      'the SPIFFE ID is another than in the certificate',
      (svid) => {
        svid.spiffeId = `${svid.spiffeId}s` as Bent['spiffeId'];
      },
      ['x509-spiffe-id'],
    ],
  ])('%s', async (_what, bend, red) => {
    bed = await workloadApiBed({});
    const now = bed.workloads.now;
    if (now === undefined) throw new Error('nothing served');
    const svids = now.svids.map((svid) => ({ ...svid }));
    for (const svid of svids) await bend(svid, bed);
    bed.workloads.set({ ...now, svids });
    const client = new WorkloadClient(bed.socket);
    const results = await runKit(
      { socket: bed.socket, client, rotate: undefined, withoutIdentityUid: undefined },
      checks.filter(({ id }) => red.includes(id)),
    );
    client.close();
    expect(
      results
        .filter(({ outcome }) => outcome === 'failed')
        .map(({ id }) => id)
        .sort(),
    ).toEqual([...red].sort());
  });
});

type Bent = {
  -readonly [K in keyof NonNullable<WorkloadApiBed['workloads']['now']>['svids'][0]]: NonNullable<
    WorkloadApiBed['workloads']['now']
  >['svids'][0][K];
};
