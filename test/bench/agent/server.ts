// A process of its own, so that its memory is: the Workload API over a fake of what the agent holds. Told over IPC.
import { workloadApiBed } from '../../support/workload-api.ts';

const bed = await workloadApiBed();

process.on('message', (message: 'rotate' | 'memory') => {
  if (message === 'rotate') void bed.workloads.rotate();
  else {
    // As V8 does of itself in a process that has become idle: what is free goes back to the system.
    globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    process.send?.({
      rss: process.memoryUsage.rss(),
      streams: bed.server.streams,
      connections: bed.server.connections,
    });
  }
});
process.on('disconnect', () => void bed.close());
process.send?.({ socket: bed.socket });
