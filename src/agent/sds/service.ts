import type { Attest } from '../../attestation/workload/attest.ts';
import { Slice } from '../../jobs/slice.ts';
import type { Method } from '../grpc/method.ts';
import { GrpcError, GrpcStatus } from '../grpc/status.ts';
import { Recognised } from '../recognised.ts';
import { Refusals } from '../refusals.ts';
import type { Served, Workloads } from '../workloads.ts';
import { readRequest } from './messages.ts';
import { Secrets } from './secrets.ts';
import { answerFor, failureOf, type Source, Subscription } from './subscription.ts';

const service = '/envoy.service.secret.v3.SecretDiscoveryService';

/**
 * Envoy's secret discovery (SDS v3): `StreamSecrets` and `FetchSecrets` by their paths; `DeltaSecrets` is not
 * implemented. `close` ends what it does, not the streams.
 */
export function createSds(options: { workloads: Workloads; attest: Attest; notice(line: string): void }): {
  methods: ReadonlyMap<string, Method>;
  close(): void;
} {
  const { workloads, attest } = options;
  const refusals = new Refusals(options.notice);
  const secrets = new WeakMap<Served, Secrets>();
  const streams = new Set<Subscription>();
  let latest: Secrets | undefined;
  const source: Source = {
    get now() {
      return workloads.now;
    },
    secretsOf(served) {
      const known = secrets.get(served) ?? new Secrets(served, latest);
      secrets.set(served, known);
      latest = known;
      return known;
    },
    withheld: () => workloads.withheld(),
    forget(subscription) {
      streams.delete(subscription);
    },
    refusals,
  };
  const unsubscribe = workloads.subscribe(() => void tell(streams));
  const methods = new Map<string, Method>([
    [
      `${service}/StreamSecrets`,
      {
        kind: 'bidi',
        open(call, out) {
          const stream = new Subscription(source, new Recognised(call.peer, attest), call, out);
          streams.add(stream);
          return stream;
        },
      },
    ],
    [
      `${service}/FetchSecrets`,
      {
        kind: 'unary',
        async call(request, call) {
          const { names } = readRequest(request);
          const workload = new Recognised(call.peer, attest);
          const answer = await answerFor(source, workload, names.length > 0 ? names : undefined).catch(
            (error: unknown) => {
              throw failureOf(error, source);
            },
          );
          if (answer === undefined)
            throw new GrpcError(GrpcStatus.invalidArgument, 'none of these secrets is yours');
          return answer.frame;
        },
      },
    ],
  ]);
  return { methods, close: unsubscribe };
}

async function tell(streams: ReadonlySet<Subscription>): Promise<void> {
  const slice = new Slice();
  for (const stream of streams) {
    stream.changed();
    if (slice.isOver) await slice.turn();
  }
}
