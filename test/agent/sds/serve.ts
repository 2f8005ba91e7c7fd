// A process that serves secrets, so that its memory is its own: `node --expose-gc serve.ts SOCKET`, told by its parent what to do.
import { randomBytes } from 'node:crypto';

// A build defines it.
Object.assign(globalThis, { __VOUCH_WITHOUT__: '' });
const { SdsHost } = await import('../../support/sds-host.ts');
const { svidOf, trustOf } = await import('../../fakes/held-workloads.ts');

const [, , socket = ''] = process.argv;
const host = new SdsHost(socket);
let serial = 0;

function rotate(): void {
  serial += 1;
  const selectors = [`unix:uid:${process.getuid?.()}`, `unix:gid:${process.getgid?.()}`];
  const svids = [
    svidOf('spiffe://prod.example/web', { serial: String(serial), selectors, chain: [randomBytes(700)] }),
  ];
  host.held.serve({ svids, trust: host.held.now?.trust ?? trustOf('prod.example', [randomBytes(2_000)]) });
}

process.on('message', (what) => {
  if (what === 'rotate') rotate();
  if (what === 'memory') {
    globalThis.gc?.();
    const { rss, heapUsed, external } = process.memoryUsage();
    process.send?.({ rss, held: heapUsed + external });
  }
});
process.on('disconnect', () => process.exit());
rotate();
await host.listen();
process.send?.('ready');
