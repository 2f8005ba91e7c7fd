import type { Command } from 'commander';
import { startServer } from '../server.ts';
import { configOf, globalsOf } from './context.ts';

/** `vouch server`. */
export function addServerVerbs(program: Command): void {
  program
    .command('server')
    .description('run the authority; SIGTERM ends it within 10 s')
    .action(async (_options: object, command: Command) => {
      const config = configOf(command);
      const output = globalsOf(command);
      const stopped = stopSignal();
      const server = await startServer(config, output.config);
      const { ready } = server;
      process.stdout.write(`${JSON.stringify(ready)}\n`);
      if (!output.json && process.stderr.isTTY)
        process.stderr.write(`enrollment ${ready.enrollmentUrl}, publication ${ready.publicationUrl}\n`);
      await stopped;
      await server.close();
    });
}

/** Resolves at the first SIGTERM or SIGINT; a second one ends the process at once. */
function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const)
      process.once(signal, () => {
        process.once(signal, () => process.exit(1));
        resolve();
      });
  });
}
