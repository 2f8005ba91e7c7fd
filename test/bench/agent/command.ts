import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join, resolve } from 'node:path';
import { endWithThisProcess } from '../../support/campaign-process.ts';
import { apis, measureDaemonStreams } from './daemon-streams.ts';
import { Host, hasExecutable, programs, restingRss } from './host.ts';
import { measureStarts } from './start.ts';

/** What `npm run bench:agent` takes. */
export interface AgentBenchOptions {
  rounds: number;
  entries: number;
  /** Nothing but cold starts. */
  starts: boolean;
  write: boolean;
  json: boolean;
}

type Figures = Record<string, number>;

const limitMs = 30 * 60_000;
const docs = resolve(import.meta.dirname, '../../../docs/benchmarks');

/** What no figure may be above. */
const limits: Readonly<Record<string, number>> = {
  bundle_certificate_to_node: 5,
  executable_certificate_to_node: 5,
  idle_rss_mb_10_entries: 90,
  workloadApi_kb_per_connection: 64,
  workloadApi_kb_per_further_stream: 5,
  sds_kb_per_connection: 64,
  sds_kb_per_further_stream: 5,
};

/** Measures, prints, and returns the exit code: 1 where a figure is above its limit. Whatever happens, no process stays. */
export async function runAgentBench(options: AgentBenchOptions): Promise<number> {
  const { rounds, entries, write, json } = options;
  const progress = (line: string): void => {
    process.stderr.write(`bench: ${(performance.now() / 1000).toFixed(0).padStart(4)} s  ${line}\n`);
  };
  const host = await Host.boot();
  endWithThisProcess({ end: () => host.endAll(), complain: progress, afterMs: limitMs });
  const figures: Figures = {};
  try {
    for (const [name, program] of Object.entries(programs)) {
      if (name === 'executable' && !hasExecutable) continue;
      progress(`${rounds} cold starts: ${name}`);
      Object.assign(figures, await starts(host, name, program, rounds));
    }
    for (const count of options.starts ? [] : [0, 10, entries]) {
      progress(`at rest with ${count} entries`);
      figures[`idle_rss_mb_${count}_entries`] = await idleRssMb(host, count);
    }
    for (const [name, api] of options.starts ? [] : Object.entries(apis)) {
      progress(`streams: ${name}`);
      const of = await measureDaemonStreams(host, api, { connections: 1000, furtherStreams: 3000 });
      Object.assign(figures, {
        [`${name}_change_reaches_1000_connections_ms`]: middle(of.changeMs),
        [`${name}_change_reaches_4000_streams_ms`]: middle(of.changeOfStreamsMs),
        [`${name}_kb_per_connection`]: of.bytesOfConnection / 1024,
        [`${name}_kb_per_further_stream`]: of.bytesOfStream / 1024,
      });
    }
  } catch (error) {
    progress(host.lastLogLines());
    throw error;
  } finally {
    await host.close();
  }
  const rounded = Object.fromEntries(
    Object.entries(figures).map(([name, value]) => [name, Number(value.toFixed(1))]),
  );
  const table = markdown(rounded);
  if (write) {
    const day = new Date(Date.now()).toISOString().slice(0, 10);
    writeFileSync(join(docs, `agent-${day}.md`), table);
    writeFileSync(join(docs, `agent-${day}.json`), `${JSON.stringify(rounded, undefined, 2)}\n`);
  }
  console.log(json ? JSON.stringify(rounded) : table);
  const above = Object.entries(limits).filter(([name, limit]) => (figures[name] ?? 0) > limit);
  for (const [name, limit] of above) progress(`${name} is ${figures[name]?.toFixed(2)}, above ${limit}`);
  return above.length > 0 ? 1 : 0;
}

async function starts(
  host: Host,
  name: string,
  program: readonly string[],
  rounds: number,
): Promise<Figures> {
  const of = await measureStarts(host, program, rounds);
  const ratio = (times: number[], beside: number[]): number =>
    middle(times.map((ms, round) => ms / (beside[round] ?? Number.NaN)));
  return {
    [`${name}_node_ms`]: middle(of.node),
    [`${name}_certificate_ms`]: middle(of.certificate),
    [`${name}_ready_ms`]: middle(of.ready),
    [`${name}_first_svid_ms`]: middle(of.firstSvid),
    [`${name}_certificate_to_node`]: ratio(of.certificate, of.node),
    [`${name}_first_svid_to_node`]: ratio(of.firstSvid, of.node),
    [`${name}_ready_cpu_ms`]: middle(of.readyCpu),
    [`${name}_ready_cpu_to_node_cpu`]: ratio(of.readyCpu, of.nodeCpu),
  };
}

async function idleRssMb(host: Host, entries: number): Promise<number> {
  const { parentId } = await host.parent(entries);
  const agent = await host.launch(parentId);
  await agent.ready;
  const bytes = await restingRss(agent.pid);
  await agent.end();
  return bytes / 1e6;
}

function middle(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

function markdown(figures: Figures): string {
  return [
    '# The agent: small and fast\n',
    `\`npm run bench:agent\`, Node ${process.versions.node}, ${cpus().length} cores, shared with others; what each figure is: [README](README.md#agent).\n`,
    '| figure | |',
    '|---|---:|',
    ...Object.entries(figures).map(([name, value]) => `| \`${name}\` | ${value.toLocaleString('en')} |`),
    '',
  ].join('\n');
}
