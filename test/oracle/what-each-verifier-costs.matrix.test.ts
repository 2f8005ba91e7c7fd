import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import type { Serial } from '../../src/core/serial.ts';
import { encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { newFolder } from '../support/running.ts';
import { CurrentAuthority } from '../x509/oracle-tools.ts';
import { goJudge, javaJudge } from './line-program.ts';
import { nginxCommand } from './nginx-judge.ts';
import {
  gnuTlsCommand,
  lay,
  leafOf,
  nssCommands,
  openSslCommand,
  question,
  questionLine,
} from './verifiers.ts';

// Prints the table of docs/verifiers.md.

const sizes = [1000, 10_000, 100_000, 1_000_000];
/** A size that would take longer, going by the two before it, is left out. */
const longSeconds = 40;
const limitMs = 600_000;

/** Runs a command and says on stderr, as its last line, what it took: seconds of processor time and peak MB. */
const meter = `import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(f"{used.ru_utime + used.ru_stime:.2f} {used.ru_maxrss // 1024}", file=sys.stderr)
sys.exit(status)`;

interface Cost {
  seconds: number;
  megabytes: number;
}

function cost(command: readonly string[], input = ''): Cost {
  const { status, stdout, stderr } = spawnSync('python3', ['-c', meter, ...command], {
    input,
    encoding: 'utf8',
    timeout: limitMs,
    maxBuffer: 1 << 28,
  });
  expect(status, stderr).toBe(0);
  if (input !== '') expect(stdout).toBe('good\n');
  const [seconds = Number.NaN, megabytes = Number.NaN] = (stderr.trim().split('\n').at(-1) ?? '')
    .split(' ')
    .map(Number);
  return { seconds, megabytes };
}

/** Files of a question about a leaf that stands, by a full CRL of so many entries. */
function asked(size: number): { folder: string; crls: string[] } {
  const authority = new CurrentAuthority();
  const revoked = Array.from({ length: size }, (_, i) => {
    const serial = `01${i.toString(16).padStart(8, '0')}${randomBytes(12).toString('hex')}` as Serial;
    return encodeRevoked({ serial, dateSeconds: authority.nowSeconds - 70, reason: 'superseded' });
  });
  const folder = newFolder();
  return { folder, crls: lay(question(authority, leafOf(authority), [authority.crl({ revoked })]), folder) };
}

it('what each verifier takes for a CRL', async () => {
  const [java, go] = await Promise.all([javaJudge(), goJudge()]);
  const node = (crl: string) =>
    [
      process.execPath,
      '-e',
      `tls.createSecureContext({ crl: fs.readFileSync(${JSON.stringify(crl)}) })`,
    ] as const;
  const rows = new Map<string, (Cost | undefined)[]>();
  for (const [nth, size] of sizes.entries()) {
    const { folder, crls } = asked(size);
    const { imports, verify } = await nssCommands(folder, crls);
    const line = questionLine(folder, crls);
    const measured: [string, () => Cost][] = [
      ['`openssl verify`', () => cost(openSslCommand(folder, crls))],
      ['nginx, start or reload', () => cost([...nginxCommand(folder), '-t'])],
      ['`certtool --verify`', () => cost(gnuTlsCommand(folder))],
      ['NSS, `crlutil -I`', () => imports.map((command) => cost(command))[0] ?? { seconds: 0, megabytes: 0 }],
      ['NSS, `vfychain`', () => cost(verify)],
      ['Node, `createSecureContext`', () => cost(node(crls[0] ?? ''))],
      ['Java, `PKIXRevocationChecker`', () => cost(java, line)],
      ['Go, `ParseRevocationList`', () => cost(go, line)],
    ];
    for (const [name, measure] of measured) {
      const row = rows.get(name) ?? [];
      const [last, before] = [row[nth - 1]?.seconds, row[nth - 2]?.seconds];
      const isTooLong = nth > 1 && !(last && before && last ** 2 / before < longSeconds);
      rows.set(name, [...row, isTooLong ? undefined : measure()]);
    }
  }
  const cell = (one: Cost | undefined) => (one ? `${one.seconds.toFixed(2)} s, ${one.megabytes} MB` : '–');
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  console.log(
    [
      line(['', ...sizes.map((size) => size.toLocaleString('en'))]),
      line(['', ...sizes].map(() => '---')),
      ...[...rows].map(([name, costs]) => line([name, ...costs.map(cell)])),
    ].join('\n'),
  );
}, 1_800_000);
