import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { WorkloadClient } from './client.ts';
import { type Result, runKit } from './kit.ts';

interface Options {
  socket: string;
  json: boolean;
  /** A command of the shell. */
  rotate: string | undefined;
  withoutIdentityUid: number | undefined;
}

/** Runs the kit and prints what came of it. Resolves to the exit code. */
export async function runConformance(options: Options): Promise<number> {
  const { rotate } = options;
  const client = new WorkloadClient(options.socket);
  const results = await runKit({
    socket: options.socket,
    client,
    rotate:
      rotate === undefined
        ? undefined
        : async () => void (await promisify(execFile)('/bin/sh', ['-c', rotate])),
    withoutIdentityUid: options.withoutIdentityUid,
  });
  client.close();
  const count = (outcome: Result['outcome']) => results.filter((one) => one.outcome === outcome).length;
  if (options.json)
    console.log(
      JSON.stringify({
        passed: count('passed'),
        failed: count('failed'),
        skipped: count('skipped'),
        results,
      }),
    );
  else {
    for (const one of results) {
      console.log(`${one.outcome.padEnd(8)} ${one.id.padEnd(32)} ${one.title} (${one.cites})`);
      if (one.why !== '') console.log(`         ${one.why}`);
      if (one.differs !== '') console.log(`         known to differ: ${one.differs}`);
    }
    console.log(`${count('skipped')} skipped`);
    console.log(`${count('passed')} passed, ${count('failed')} failed`);
  }
  return count('failed') === 0 ? 0 : 1;
}
