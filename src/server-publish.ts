import type { PublishTargetConfig } from './config/config.ts';
import type { Clock } from './core/clock.ts';
import { openDirectoryTarget } from './publish/directory.ts';
import type { PublishedDocument, PublishTarget } from './publish/port.ts';
import { Pusher, type PushStatus } from './publish/pusher.ts';
import { openS3Target } from './publish/s3.ts';
import { lockState } from './store/sqlite/lock.ts';
import { errorFields, type Log } from './telemetry/log.ts';

/** The configured targets, each with a pusher of its own: one that is away delays no other. */
export interface Pushers {
  put: (path: string, document: PublishedDocument) => void;
  status: () => PushStatus[];
  close(): Promise<void>;
}

/** The log is not put there: it has files of its own, and a checkpoint each second. */
const notPushed = '/log/';

/** Opens them; what they cannot do now is tried again and shows in their status. */
export function openPushers(
  configured: readonly PublishTargetConfig[],
  { clock, log }: { clock: Clock; log: Log },
): Pushers {
  const failed = (target: string, path: string, error: Error): void =>
    log.error({ target, path, ...errorFields(error) }, 'a target did not take it; it is tried again');
  const pushers = configured.flatMap(targetsOf).map((target) => new Pusher(target, { clock, failed }));
  return {
    put: (path, document) => {
      if (path.startsWith(notPushed)) return;
      for (const pusher of pushers) pusher.put(path, document);
    },
    status: () => pushers.map((pusher) => pusher.status()),
    close: async () => void (await Promise.all(pushers.map((pusher) => pusher.close()))),
  };
}

function targetsOf({ directory, s3 }: PublishTargetConfig): PublishTarget[] {
  return [
    ...(directory === undefined ? [] : [openDirectoryTarget({ directory, lock: lockAtOnce })]),
    ...(s3 === undefined ? [] : [openS3Target(s3)]),
  ];
}

/** Nobody is waited for: it is tried again. */
function lockAtOnce(file: string): { release(): void } {
  return lockState(file, 0);
}
