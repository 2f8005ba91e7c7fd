// The main job, run for real and verified at each step; scripts/quickstart sets the machine up and starts this.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = path.join(root, '.vouch-quickstart');
const vouch = path.join(root, 'scripts/vouch');
const config = path.join(folder, 'state/vouch.yaml');
const keep = process.argv.includes('--keep');
const json = process.argv.includes('--json');
const trustDomain = 'quickstart.example';
const billingId = `spiffe://${trustDomain}/billing`;
const ordersId = `spiffe://${trustDomain}/orders`;
const stepLimitMs = 30_000;

const running = new Set();
const figures = {};

/** Says what was checked and how long it took; a step that throws ends the quickstart. */
async function step(text, work) {
  const started = performance.now();
  const note = await within(work(), text);
  const ms = Math.round(performance.now() - started);
  console.error(`${String(ms).padStart(6)} ms  ${text}${note ? `: ${note}` : ''}`);
  return ms;
}

function within(promise, text) {
  const { promise: late, reject } = Promise.withResolvers();
  const timer = setTimeout(
    () => reject(new Error(`${text}: no result within ${stepLimitMs / 1000} s`)),
    stepLimitMs,
  );
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function check(condition, what) {
  if (!condition) throw new Error(`not as it must be: ${what}`);
}

/** Runs a command to its end. */
async function run(command, args) {
  const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ]);
  return { code, stdout, stderr };
}

async function text(stream) {
  let all = '';
  for await (const chunk of stream.setEncoding('utf8')) all += chunk;
  return all;
}

/** An operator's verb; throws unless it exits 0. */
async function operator(...args) {
  const { code, stdout, stderr } = await run(vouch, [...args, '--json', '--config', config]);
  check(code === 0, `vouch ${args.slice(0, 2).join(' ')} (exit ${code}) ${stderr.slice(0, 400)}`);
  return JSON.parse(stdout);
}

/** A process that stays, and its JSON lines. */
function start(name, command, args) {
  const child = spawn(command, args, { cwd: root, stdio: ['pipe', 'pipe', 'pipe'] });
  const errors = [];
  child.stderr.setEncoding('utf8').on('data', (chunk) => errors.push(chunk) > 200 && errors.shift());
  const lines = [];
  const waiters = new Set();
  createInterface({ input: child.stdout }).on('line', (line) => {
    let event;
    try {
      event = { at: performance.now(), ...JSON.parse(line) };
    } catch {
      return;
    }
    lines.push(event);
    for (const waiter of waiters) waiter(event);
  });
  const exited = once(child, 'exit').then(([code]) => code);
  const service = { name, child, lines, exited, errors };
  /** The first line, from `since` on, that fits. */
  service.seen = (fits, since = 0) =>
    new Promise((resolve, reject) => {
      const found = lines.slice(since).find(fits);
      if (found) return resolve(found);
      const waiter = (event) => fits(event) && (waiters.delete(waiter), resolve(event));
      waiters.add(waiter);
      void exited.then((code) =>
        reject(new Error(`${name} ended (exit ${code}): ${errors.join('').slice(-600)}`)),
      );
    });
  service.ask = (command) => {
    const since = lines.length;
    child.stdin.write(`${command}\n`);
    return service.seen((event) => event.event === command, since);
  };
  running.add(service);
  return service;
}

async function stop(service) {
  running.delete(service);
  service.child.kill('SIGTERM');
  const timer = setTimeout(() => service.child.kill('SIGKILL'), 12_000);
  const code = await service.exited;
  clearTimeout(timer);
  return code;
}

async function newToken(name) {
  const { code, stdout, stderr } = await run(path.join(root, 'hsm-sim/new-token'), [
    '--dir',
    path.join(folder, name),
    '--label',
    name,
    '--json',
  ]);
  check(code === 0, `hsm-sim/new-token: ${stderr}`);
  writeFileSync(path.join(folder, `${name}.json`), stdout, { mode: 0o600 });
}

async function workload(name, id, more, command) {
  const joinFile = path.join(folder, `${name}.join`);
  await operator(
    'token',
    'create',
    '--id',
    id,
    '--dns',
    `${name}.${trustDomain}`,
    '--out',
    joinFile,
    ...more,
  );
  return start(name, vouch, [
    'exec',
    '--join-file',
    joinFile,
    '--out',
    path.join(folder, name),
    '--',
    process.execPath,
    ...command,
  ]);
}

async function main() {
  await endPrevious();
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { mode: 0o700 });
  let server;
  let billing;
  let orders;
  let ready;

  await step('two SoftHSM tokens, one for the root, one for issuer and log', async () => {
    await newToken('hsm');
    await newToken('root-hsm');
  });
  await step('vouch init: root, issuer, statement, first checkpoint', async () => {
    const listen = ['--enrollment-listen', '--publication-listen', '--operations-listen'].flatMap((flag) => [
      flag,
      '127.0.0.1:0',
    ]);
    const tokens = [
      '--hsm-file',
      path.join(folder, 'hsm.json'),
      '--root-hsm-file',
      path.join(folder, 'root-hsm.json'),
    ];
    const { code, stderr } = await run(vouch, [
      'init',
      '--state',
      path.dirname(config),
      '--trust-domain',
      trustDomain,
      ...tokens,
      '--dev',
      ...listen,
      '--json',
    ]);
    check(code === 0, `vouch init: ${stderr}`);
  });
  await step('vouch server is ready', async () => {
    server = start('server', vouch, ['server', '--config', config, '--json']);
    ready = await server.seen((event) => event.event === 'ready');
    writeFileSync(path.join(folder, 'server.pid'), String(ready.pid));
    check(existsSync(ready.adminSocket), 'the admin socket');
  });
  await step('billing enrolled with its join file and listens', async () => {
    billing = await workload(
      'billing',
      billingId,
      ['--allow', ordersId],
      [path.join(root, 'examples/billing/main.mjs')],
    );
    const listening = await billing.seen((event) => event.event === 'listening');
    check(listening.spiffeId === billingId, 'the identity of billing');
    billing.url = listening.url;
  });
  figures.firstCertificateMs = await firstCertificate();
  await step('orders enrolled with its join file', async () => {
    orders = await workload(
      'orders',
      ordersId,
      [],
      [path.join(root, 'examples/orders/main.mjs'), billing.url, billingId],
    );
    check(
      (await orders.seen((event) => event.event === 'ready')).spiffeId === ordersId,
      'the identity of orders',
    );
  });
  await step('orders calls billing over mutual TLS', async () => {
    const call = await orders.ask('call');
    check(call.outcome === 'answered' && call.status === 200, JSON.stringify(call));
    check(
      (await billing.seen((event) => event.event === 'answered')).caller === ordersId,
      'billing knows who called',
    );
    check((await orders.ask('hold')).outcome === 'answered', 'a connection held open');
    check((await orders.ask('use')).outcome === 'answered', 'the held connection answers');
  });

  const { certificates } = await operator('cert', 'list', '--id', ordersId);
  const { serial } = certificates[0];
  let revokedAt;
  let crl;
  await step(`vouch revoke --serial ${serial}`, async () => {
    revokedAt = performance.now();
    const result = await operator('revoke', '--serial', serial, '--reason', 'keyCompromise');
    check(result.published && result.revoked[0]?.serial === serial, JSON.stringify(result));
    crl = result;
  });
  await step('its CRL, over plain HTTP, lists it; OpenSSL reads it', async () => {
    const response = await fetch(crl.crlUrl);
    check(
      response.ok && response.headers.get('content-type') === 'application/pkix-crl',
      `${crl.crlUrl} answered ${response.status}`,
    );
    const file = path.join(folder, 'issuer.crl');
    writeFileSync(file, Buffer.from(await response.arrayBuffer()));
    const { stdout } = await run('openssl', ['crl', '-inform', 'DER', '-in', file, '-noout', '-text']);
    check(stdout.toLowerCase().includes(`serial number: ${serial}`), 'the serial on the CRL');
    return `number ${crl.crlNumber}`;
  });
  await step('billing closed the open connection of orders', async () => {
    const closed = await orders.seen((event) => event.event === 'held-connection-closed');
    figures.revokeToRefusedOpenMs = Math.round(closed.at - revokedAt);
    return `${figures.revokeToRefusedOpenMs} ms after the operator's Enter`;
  });
  await step('billing refuses orders on a new connection', async () => {
    const call = await orders.ask('call');
    check(call.outcome === 'refused', JSON.stringify(call));
    const refused = await billing.seen((event) => event.event === 'refused');
    check(refused.code === 'denied-revoked', JSON.stringify(refused));
    figures.revokeToRefusedNewMs = Math.round(refused.at - revokedAt);
  });
  await step('billing refuses orders on a resumed session', async () => {
    const before = billing.lines.length;
    const resumed = await orders.ask('resume');
    check(resumed.outcome === 'refused', JSON.stringify(resumed));
    check(
      (await billing.seen((event) => event.event === 'refused', before)).code === 'denied-revoked',
      'refused as revoked',
    );
  });
  await step('the revoked one cannot renew', async () => {
    const { code, stderr } = await run(vouch, ['renew', '--dir', path.join(folder, 'orders'), '--json']);
    const problem = JSON.parse(stderr.trim().split('\n').at(-1) ?? '{}');
    check(code === 1 && problem.code === 'denied-revoked', `exit ${code}: ${stderr}`);
    figures.renewRefused = true;
    return problem.detail;
  });
  await stop(orders);
  await stop(billing);
  await step('vouch log verify: everything signed is in the log', async () => {
    const { code, stdout } = await run(vouch, ['log', 'verify', '--state', path.dirname(config), '--json']);
    const log = JSON.parse(stdout);
    check(code === 0 && log.problems.length === 0 && log.revocations === 1, stdout);
    return `${log.treeSize} leaves, ${log.certificates} certificates, ${log.revocations} revocation`;
  });
  figures.config = config;
  if (keep) keepRunning(server, ready);
  else await step('vouch server ends', async () => check((await stop(server)) === 0, 'its exit code'));
}

/** Process start to certificate on disk, with everything else up. */
async function firstCertificate() {
  const joinFile = path.join(folder, 'first.join');
  const out = path.join(folder, 'first');
  await operator('token', 'create', '--id', `spiffe://${trustDomain}/first`, '--out', joinFile);
  return step('vouch enroll, cold: process start to certificate on disk', async () => {
    const { code, stdout, stderr } = await run(vouch, [
      'enroll',
      '--join-file',
      joinFile,
      '--out',
      out,
      '--json',
    ]);
    check(code === 0 && existsSync(path.join(out, 'current/svid.pem')), stderr);
    check(readFileSync(path.join(out, 'current/svid.pem'), 'utf8').includes('BEGIN CERTIFICATE'), 'svid.pem');
    return JSON.parse(stdout).serial;
  });
}

function keepRunning(server, ready) {
  running.delete(server);
  server.child.unref();
  for (const stream of server.child.stdio) stream?.destroy();
  console.error(`
The server stays up (pid ${ready.pid}). Try:
  scripts/vouch status --config ${config}
  scripts/vouch token create --config ${config} --id spiffe://${trustDomain}/mine --out mine.join
  scripts/vouch enroll --join-file mine.join --out ./mine
  curl -s ${ready.publicationUrl}/bundle.json
End it: kill ${ready.pid}`);
}

/** A server that an earlier `--keep` left would hold the state. */
async function endPrevious() {
  const pidFile = path.join(folder, 'server.pid');
  if (!existsSync(pidFile)) return;
  const pid = Number(readFileSync(pidFile, 'utf8'));
  const isOurs = () => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(config);
    } catch {
      return false;
    }
  };
  if (!isOurs()) return;
  process.kill(pid, 'SIGTERM');
  for (let tries = 0; tries < 120 && isOurs(); tries += 1)
    await new Promise((resolve) => setTimeout(resolve, 100));
}

/** Not killed: who is asked to stop takes its own children along. */
async function stopAll() {
  await Promise.all([...running].map(stop));
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
  process.once(signal, () => void stopAll().finally(() => process.exit(1)));
try {
  await main();
  console.error('\nAll of it was verified.');
  if (json) console.log(JSON.stringify(figures));
} catch (error) {
  console.error(`\nquickstart: ${error.message}`);
  process.exitCode = 1;
  await stopAll();
}
if (keep && process.exitCode !== 1) process.exit(0);
