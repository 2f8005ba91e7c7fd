// `npm run bench:agent`: what connections and streams of the agent's socket cost, and how long a rotation takes to reach all.
import { runTypeScript } from '../../support/runner.mjs';

process.exitCode = await runTypeScript('bench', async () => {
  const { measureStreams } = await import('./streams.ts');
  const figures = await measureStreams();
  if (process.argv.includes('--json')) console.log(JSON.stringify(figures));
  else
    console.log(
      [
        `${figures.connections} connections with one stream: ${kib(figures.bytesOfConnection)} each; a rotation reaches all in ${figures.rotationMs.join(', ')} ms`,
        `${figures.furtherStreams} further streams: ${kib(figures.bytesOfStream)} each; a rotation reaches all in ${figures.rotationOfStreamsMs.join(', ')} ms`,
      ].join('\n'),
    );
  return 0;
});

function kib(bytes) {
  return `${(bytes / 1024).toFixed(1)} KiB`;
}
