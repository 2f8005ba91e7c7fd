import { cpus } from 'node:os';

/** What one size gave; the members that every reader of `--json` counts on come first. */
export interface Figures {
  entries: number;
  revoke_to_shard_fetched_ms_p99: number;
  revoke_to_full_fetched_ms_p99: number;
  peak_rss_mb: number;
  refused_ms_p99_client: number;
  entries_refused: number;
  refused_ms_p99_nginx: number;
  refused_ms_p99_haproxy: number;
  push_ms_p99_1000_agents: number;
  [more: string]: number;
}

/** A table with a column for each size, and a row for each figure. */
export function markdown(all: readonly Figures[]): string {
  const sizes = all.map(({ entries }) => entries.toLocaleString('en'));
  const rows = Object.keys(all[0] ?? {}).filter((name) => name !== 'entries');
  const cell = (figures: Figures, name: string): string =>
    Number.isFinite(figures[name]) ? Number(figures[name]).toLocaleString('en') : '–';
  return [
    `# From a revocation to where it bites\n`,
    `\`npm run bench:revocation\`, Node ${process.versions.node}, ${cpus().length} cores, shared with others; what each figure is: [README](README.md#revocation).\n`,
    `| revoked and unexpired | ${sizes.join(' | ')} |`,
    `|---|${sizes.map(() => '---:|').join('')}`,
    ...rows.map((name) => `| \`${name}\` | ${all.map((figures) => cell(figures, name)).join(' | ')} |`),
    '',
  ].join('\n');
}
