// Makes one SoftHSM token in a directory of its own. No dependencies; plain Node from version 18 on.
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const usage = 'usage: hsm-sim/new-token --dir DIR --label LABEL [--shim [--profile NAME]] [--json]';

const help = `${usage}

Makes a token of SoftHSM, without root, in a folder of its own. For development and tests: SoftHSM keeps keys in files.

  --dir DIR      folder of the token; made if missing, with softhsm2.conf, tokens/ and pin (0600) in it
  --label LABEL  name of the token: 1 to 32 of A-Z a-z 0-9 . _ -
  --shim         behind the module that misbehaves as DIR/control says and writes DIR/signatures.jsonl (README.md); has to
                 be built: make -C hsm-sim/shim
  --profile NAME the control file begins as hsm-sim/profiles/NAME.conf: latency and limits of a device
  --json         {module, tokenLabel, tokenSerial, pinFile, environment}, as \`vouch init\` reads it; without it the same
                 as the \`hsm:\` block of vouch.yaml; errors are problem+json then

Exit: 0 done, 1 failed, 2 usage.
`;

/** Where distributions put SoftHSM's PKCS#11 module; Debian's stable link first. */
const modulePaths = [
  '/usr/lib/softhsm/libsofthsm2.so',
  '/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so',
  '/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so',
  '/usr/lib64/pkcs11/libsofthsm2.so',
  '/usr/lib64/softhsm/libsofthsm2.so',
  '/usr/local/lib/softhsm/libsofthsm2.so',
];

const here = dirname(fileURLToPath(import.meta.url));

class Refusal extends Error {
  constructor(exitCode, message) {
    super(message);
    this.exitCode = exitCode;
  }
}

main().catch((error) => {
  const json = process.argv.includes('--json');
  process.stderr.write(`${json ? JSON.stringify(problemOf(error)) : `new-token: ${error.message}`}\n`);
  process.exitCode = error instanceof Refusal ? error.exitCode : 1;
});

/** As `vouch` writes it (RFC 9457). */
function problemOf(error) {
  const [code, title, status] =
    error.exitCode === 2
      ? ['usage-invalid', 'The command line is wrong', 400]
      : ['config-hsm', 'The token cannot be made', 500];
  return { type: `urn:vouch:problem:${code}`, title, status, code, detail: error.message };
}

async function main() {
  if (process.argv.includes('--help')) {
    process.stdout.write(help);
    return;
  }
  const { dir, label, json, shim, profile } = readArguments();
  const module = findModule();
  const simulator = shim ? findSimulator(profile) : undefined;
  const files = createFiles(dir);
  const environment = { SOFTHSM2_CONF: files.config };
  const userPin = newPin();
  let tokenSerial;
  try {
    writeFileSync(files.pin, `${userPin}\n`, { mode: 0o600, flag: 'wx', flush: true });
    // The security officer's PIN is kept nowhere: all it could do is reset the user PIN of this simulated token.
    await initToken({ label, soPin: newPin(), userPin, environment });
    tokenSerial = readSerial(label, environment);
    if (simulator?.profile) copyFileSync(simulator.profile, files.control);
    syncTree(dir);
  } catch (error) {
    for (const made of [
      files.pin,
      files.tokens,
      files.config,
      ...(simulator?.profile ? [files.control] : []),
    ])
      rmSync(made, { recursive: true, force: true });
    throw error;
  }
  const made = {
    module: simulator?.module ?? module,
    tokenLabel: label,
    tokenSerial,
    pinFile: files.pin,
    environment: simulator
      ? { ...environment, HSM_SIM_MODULE: module, HSM_SIM_CONTROL: files.control, HSM_SIM_LOG: files.log }
      : environment,
  };
  process.stdout.write(json ? `${JSON.stringify(made)}\n` : yamlBlock(made));
}

function readArguments() {
  const options = {
    dir: { type: 'string' },
    label: { type: 'string' },
    shim: { type: 'boolean', default: false },
    profile: { type: 'string' },
    json: { type: 'boolean', default: false },
  };
  let values;
  try {
    ({ values } = parseArgs({ options }));
  } catch (error) {
    throw new Refusal(2, `${error.message}; ${usage}`);
  }
  if (!values.dir || !values.label) throw new Refusal(2, usage);
  // What the label may hold also keeps it harmless in the command that script(1) hands to a shell.
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$/.test(values.label))
    throw new Refusal(2, 'the label takes 1 to 32 of A-Z a-z 0-9 . _ - and starts with a letter or digit');
  const dir = resolve(values.dir);
  if (/[\r\n]/.test(dir)) throw new Refusal(2, 'the directory name must not hold line breaks');
  const { label, json, shim, profile } = values;
  if (profile !== undefined && !shim) throw new Refusal(2, `--profile is for --shim; ${usage}`);
  if (profile !== undefined && !profiles().includes(profile))
    throw new Refusal(2, `there is no such profile; there are ${profiles().join(', ')}`);
  return { dir, label, json, shim, profile };
}

function findModule() {
  const module = modulePaths.find((path) => existsSync(path));
  if (!module || !onPath('softhsm2-util'))
    throw new Refusal(1, "SoftHSM is missing; install Debian's package softhsm2 (apt-get install softhsm2)");
  if (!onPath('script')) throw new Refusal(1, "script(1) is missing; install Debian's package bsdutils");
  return module;
}

/** @param {string} name */
function profileFile(name) {
  return join(here, 'profiles', `${name}.conf`);
}

function profiles() {
  return readdirSync(join(here, 'profiles'))
    .filter((name) => name.endsWith('.conf'))
    .map((name) => name.slice(0, -'.conf'.length))
    .sort();
}

function findSimulator(profile) {
  const module = join(here, 'shim/build/libhsmsim.so');
  if (!existsSync(module))
    throw new Refusal(1, `the simulator is not built; run make -C ${join(here, 'shim')}`);
  return { module, profile: profile && profileFile(profile) };
}

function onPath(program) {
  return (process.env.PATH ?? '')
    .split(':')
    .some((folder) => folder !== '' && existsSync(join(folder, program)));
}

function createFiles(dir) {
  const config = join(dir, 'softhsm2.conf');
  if ([config, join(dir, 'pin'), join(dir, 'control')].some((path) => existsSync(path)))
    throw new Refusal(1, `${dir} already holds a token; choose another directory`);
  makeFolders(dir);
  const tokens = join(dir, 'tokens');
  mkdirSync(tokens, { mode: 0o700 });
  const lines = [
    `directories.tokendir = ${tokens}`,
    'objectstore.backend = file',
    'log.level = ERROR',
    'slots.removable = false',
  ];
  writeFileSync(config, `${lines.join('\n')}\n`, { mode: 0o600, flag: 'wx' });
  return {
    ...{ config, tokens, pin: join(dir, 'pin') },
    ...{ control: join(dir, 'control'), log: join(dir, 'signatures.jsonl') },
  };
}

/** Not Node's recursive mkdirSync, which tries for ever below a folder that takes none, such as /proc. */
function makeFolders(dir) {
  if (existsSync(dir)) return;
  if (dirname(dir) !== dir) makeFolders(dirname(dir));
  mkdirSync(dir, { mode: 0o700 });
}

/** 128 random bits in characters that every PIN pad and shell takes. */
function newPin() {
  return randomBytes(16).toString('hex');
}

/**
 * softhsm2-util takes PINs in argv, where every user of the machine can read them, or asks for them on a terminal:
 * script(1) gives it one, and each PIN is typed after its prompt.
 */
function initToken({ label, soPin, userPin, environment }) {
  const command = `softhsm2-util --init-token --free --label ${label}`;
  const answers = [soPin, soPin, userPin, userPin];
  return new Promise((done, failed) => {
    const child = spawn('script', ['-qefc', command, '/dev/null'], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...environment, SHELL: '/bin/sh', LC_ALL: 'C' },
    });
    let said = '';
    let answered = 0;
    const hear = (bytes) => {
      said += bytes;
      const asked = said.match(/Please (?:re)?enter[^:\n]*PIN: /g)?.length ?? 0;
      while (answered < Math.min(asked, answers.length)) child.stdin.write(`${answers[answered++]}\n`);
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.stdin.on('error', () => {});
    const timer = setTimeout(() => child.kill('SIGKILL'), 20_000);
    child.on('error', failed);
    child.on('close', (code) => {
      clearTimeout(timer);
      if (code === 0) done();
      else failed(new Refusal(1, `softhsm2-util could not make the token: ${lastLine(said)}`));
    });
  });
}

function lastLine(text) {
  return text.replaceAll('\r', '').trim().split('\n').at(-1) || 'no answer';
}

function readSerial(label, environment) {
  const shown = spawnSync('softhsm2-util', ['--show-slots'], {
    encoding: 'utf8',
    env: { ...process.env, ...environment, LC_ALL: 'C' },
  });
  const slots = (shown.stdout ?? '').split(/^Slot \d+$/m);
  const slot = slots.find((text) =>
    new RegExp(`^\\s*Label:\\s+${label.replaceAll('.', '\\.')}\\s*$`, 'm').test(text),
  );
  const serial = slot && /^\s*Serial number:\s+(\S+)\s*$/m.exec(slot)?.[1];
  if (!serial)
    throw new Refusal(1, `the new token is not shown by softhsm2-util: ${lastLine(shown.stderr ?? '')}`);
  return serial;
}

/** SoftHSM syncs nothing itself: without this a power cut could take the token that a CA was just built on. */
function syncTree(path) {
  if (statSync(path).isDirectory()) for (const name of readdirSync(path)) syncTree(join(path, name));
  const file = openSync(path, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function yamlBlock(made) {
  const quote = (text) => JSON.stringify(text);
  return [
    'hsm:',
    `  module: ${quote(made.module)}`,
    `  tokenLabel: ${quote(made.tokenLabel)}`,
    `  tokenSerial: ${quote(made.tokenSerial)}`,
    `  pinFile: ${quote(made.pinFile)}`,
    '  environment:',
    ...Object.entries(made.environment).map(([name, value]) => `    ${name}: ${quote(value)}`),
    '',
  ].join('\n');
}
