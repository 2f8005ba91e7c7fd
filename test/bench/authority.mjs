// A real authority in a folder of its own, with its server and signer on one core.
import { createHash, X509Certificate } from 'node:crypto';
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { awaitAtEnd, end, pinned, run, start } from './processes.mjs';

const trustDomain = 'bench.example';
const logName = 'server.log';
const readyTimeoutMs = 30_000;
const adminTimeoutMs = 30_000;
const tokensAtOnce = 64;
const tokenTtlSeconds = 3600;

/** Makes tokens and state, and starts the server. `profileDir`: its CPU profile is written there at the end. */
export async function startAuthority({ root, folder, core, profileDir }) {
  const hsmFile = await newToken(root, folder, 'issuer');
  const rootHsmFile = await newToken(root, folder, 'root');
  const state = join(folder, 'state');
  const listen = ['enrollment', 'publication', 'operations'].flatMap((name) => [
    `--${name}-listen`,
    '127.0.0.1:0',
  ]);
  const files = ['--hsm-file', hsmFile, '--root-hsm-file', rootHsmFile];
  const init = [
    'init',
    '--state',
    state,
    '--trust-domain',
    trustDomain,
    ...files,
    '--dev',
    ...listen,
    '--json',
  ];
  const made = JSON.parse(await run(join(root, 'scripts/vouch'), init));
  const server = await startServer({ root, folder, core, profileDir, config: made.config });
  return new Authority({ ...server, state, rootPin: made.rootPin });
}

/** Makes a SoftHSM token; returns the file that describes it. */
export async function newToken(root, folder, label) {
  const args = ['--dir', join(folder, label), '--label', label, '--json'];
  const description = await run(join(root, 'hsm-sim/new-token'), args);
  const file = join(folder, `${label}.json`);
  writeFileSync(file, description);
  return file;
}

class Authority {
  #server;
  #agent;
  #state;
  #tokens = 0;

  constructor({ server, ready, state, rootPin }) {
    this.#server = server;
    this.#state = state;
    this.ready = ready;
    this.rootPin = rootPin;
    this.#agent = new http.Agent({ keepAlive: true, maxSockets: tokensAtOnce });
  }

  /** host:port of the enrollment listener. */
  get address() {
    return new URL(this.ready.enrollmentUrl).host;
  }

  /** The processes that it consists of. */
  get pids() {
    return [this.ready.pid, this.ready.signerPid];
  }

  /** The server's own certificate and key, PEM, as the agents see it. */
  identity() {
    const read = (name) => readFileSync(join(this.#state, 'server', name), 'utf8');
    const cert = read('svid.pem');
    const { raw } = new X509Certificate(cert);
    return { cert, key: read('svid.key'), sha256: createHash('sha256').update(raw).digest('hex') };
  }

  /** Join tokens for one use each, every one for an identity of its own: `{ token, spiffeId, joinFile }`. */
  async createTokens(count) {
    const made = [];
    let left = count;
    const work = async () => {
      while (left > 0) {
        left -= 1;
        this.#tokens += 1;
        const spiffeId = `spiffe://${trustDomain}/workload/${this.#tokens}`;
        const { joinFile } = await this.#post('/v1/tokens', { spiffeId, ttlSeconds: tokenTtlSeconds });
        const { token } = JSON.parse(
          Buffer.from(joinFile.slice('vouch1.'.length), 'base64url').toString('utf8'),
        );
        made.push({ token, spiffeId, joinFile });
      }
    };
    await Promise.all(Array.from({ length: Math.min(tokensAtOnce, count) }, work));
    return made;
  }

  /** Ends the server as an operator would. */
  async stop() {
    this.#agent.destroy();
    const { code, signal } = await end(this.#server);
    if (code !== 0) throw new Error(`the server ended with ${signal ?? `exit ${code}`}`);
  }

  #post(path, body) {
    const { adminSocket: socketPath } = this.ready;
    const payload = JSON.stringify(body);
    const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(payload) };
    const options = {
      socketPath,
      path,
      method: 'POST',
      headers,
      agent: this.#agent,
      timeout: adminTimeoutMs,
    };
    return new Promise((resolve, reject) => {
      const request = http.request(options, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (part) => (text += part));
        response.on('error', reject);
        response.on('end', () => {
          if (response.statusCode === 200) resolve(JSON.parse(text));
          else reject(new Error(`POST ${path} on the admin socket answers ${response.statusCode}: ${text}`));
        });
      });
      request.on('timeout', () => request.destroy(new Error('the admin socket does not answer')));
      request.on('error', reject);
      request.end(payload);
    });
  }
}

/** What the server of that folder logged last as errors. */
export function lastErrors(folder) {
  const file = join(folder, logName);
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines.filter((line) => line.includes('"level":"error"')).slice(-4);
}

async function startServer({ root, folder, core, profileDir, config }) {
  const logFile = join(folder, logName);
  const log = openSync(logFile, 'w');
  const [command, args] = pinned(core, join(root, 'scripts/vouch'), ['server', '--config', config, '--json']);
  const profiling = profileDir ? { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profileDir}` } : {};
  const server = start(command, args, {
    stdio: ['ignore', 'pipe', log],
    env: { ...process.env, ...profiling },
  });
  closeSync(log);
  try {
    const ready = await firstLine(server);
    awaitAtEnd(ready.signerPid);
    return { server, ready };
  } catch (error) {
    throw new Error(`${error.message}; its log ends with ${readFileSync(logFile, 'utf8').slice(-2000)}`);
  }
}

function firstLine({ child, ended }) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('the server is not ready in time')), readyTimeoutMs);
    let text = '';
    child.stdout.setEncoding('utf8');
    child.stdout.on('data', (part) => {
      text += part;
      if (!text.includes('\n')) return;
      clearTimeout(timer);
      resolve(JSON.parse(text.slice(0, text.indexOf('\n'))));
    });
    void ended.then(({ code }) => {
      clearTimeout(timer);
      reject(new Error(`the server ended with exit ${code} before it was ready`));
    });
  });
}
