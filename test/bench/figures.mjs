// From what was measured to the figures that are printed.

/** Median of numbers. */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * One mode in one round: the rate of enrollments beside that of the floor, whose time is the sum of its parts.
 * `cpu_ratio`: the same in CPU time, which neither waits for the disk nor for the load.
 */
export function compare({ enroll, echo, parts }) {
  const cpuOf = ({ ownSeconds, counted }) => ownSeconds.map((seconds) => (seconds * 1e6) / counted);
  const [serverCpu, signerCpu] = cpuOf(enroll);
  const all = { echo: { wall: 1e6 / echo.rate, cpu: cpuOf(echo)[0] }, ...parts };
  const sum = (clock) => Object.values(all).reduce((total, part) => total + part[clock], 0);
  return {
    ratio: (enroll.rate * sum('wall')) / 1e6,
    cpu_ratio: sum('cpu') / (serverCpu + signerCpu),
    rate: enroll.rate,
    floor_rate: 1e6 / sum('wall'),
    echo_rate: echo.rate,
    foreign: enroll.foreignSeconds / enroll.seconds,
    ms_p50: enroll.msP50,
    ms_p99: enroll.msP99,
    batch: enroll.batch,
    server_cpu_us: serverCpu,
    signer_cpu_us: signerCpu,
    floor_cpu_us: sum('cpu'),
    floor_us: Object.fromEntries(Object.entries(all).map(([name, { wall }]) => [name, wall])),
  };
}

/** Medians over the rounds, member by member; `ratios` keeps each round's, to show how steady they were. */
export function summarize(rounds) {
  return { ...medians(rounds), ratios: rounds.map(({ ratio }) => rounded(ratio)) };
}

function medians(objects) {
  const entries = Object.entries(objects[0]).map(([name, value]) => {
    const all = objects.map((one) => one[name]);
    return [name, typeof value === 'object' ? medians(all) : rounded(median(all))];
  });
  return Object.fromEntries(entries);
}

/** Four significant digits. */
export function rounded(value) {
  return Number(value.toPrecision(4));
}

/** The figures for people. */
export function table({ boot_to_node, keepalive, connect, boot }) {
  const line = (name, { rate, floor_rate, ratio, cpu_ratio, foreign, ms_p50, ms_p99, batch, ratios }) =>
    `${name.padEnd(12)}${row(rate, floor_rate)}${`${ratio}`.padStart(8)}${`${cpu_ratio}`.padStart(9)}  ` +
    `${ratios.join(' ')}; others ${foreign}; p50 ${ms_p50} ms, p99 ${ms_p99} ms; ${batch} in a commit`;
  const parts = Object.keys(keepalive.floor_us).map(
    (name) => `${name.padEnd(18)}${row(keepalive.floor_us[name], connect.floor_us[name])}`,
  );
  return [
    '              enroll/s   floor/s   ratio   by CPU  by round',
    line('keep-alive', keepalive),
    line('connect', connect),
    '',
    `boot         ${boot.enroll_ms} ms ÷ ${boot.node_ms} ms = ${boot_to_node}`,
    '',
    'µs          keep-alive   connect',
    ...parts,
    `${'floor CPU'.padEnd(18)}${row(keepalive.floor_cpu_us, connect.floor_cpu_us)}`,
    `${'server CPU'.padEnd(18)}${row(keepalive.server_cpu_us, connect.server_cpu_us)}`,
    `${'signer CPU'.padEnd(18)}${row(keepalive.signer_cpu_us, connect.signer_cpu_us)}`,
  ].join('\n');
}

function row(...values) {
  return values
    .map((value) => String(value < 1000 ? rounded(value) : Math.round(value)).padStart(10))
    .join('');
}
