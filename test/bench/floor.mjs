// The floor of an enrollment: the sum of its unavoidable parts, each measured on the core that the server has.
import { fileURLToPath } from 'node:url';
import { newToken } from './authority.mjs';
import { runLoad } from './load.mjs';
import { end, pinned, start } from './processes.mjs';

const replyTimeoutMs = 30_000;
/** What a certificate's leaf has around its TBS (docs/log-format.md). */
const leafOverheadBytes = 66;
const partMs = 250;

/** Starts the three children that measure it. `sizes`: what the server's bodies and certificates measured. */
export async function startFloor({ root, folder, core, program, identity, sizes }) {
  const hsmFile = await newToken(root, folder, 'floor');
  const children = {
    echo: child(core, import.meta.resolve('./floor/echo.mjs'), []),
    hsm: child(core, import.meta.resolve('./floor/hsm.mjs'), [hsmFile]),
    parts: child(core, import.meta.resolve('./floor/parts.mjs'), [folder]),
  };
  await Promise.all([reply(children.hsm), reply(children.parts)]);
  const { cert, key, sha256 } = identity;
  const { port } = await ask(children.echo, { cert, key, responseBytes: sizes.responseBytes });
  const echoPlan = { kind: 'echo', address: `127.0.0.1:${port}`, serverCertificateSha256: sha256, ...sizes };
  return new Floor({ children, program, echoPlan, sizes });
}

class Floor {
  #children;
  #program;
  #echoPlan;
  #sizes;

  constructor({ children, program, echoPlan, sizes }) {
    this.#children = children;
    this.#program = program;
    this.#echoPlan = echoPlan;
    this.#sizes = sizes;
  }

  /** The echo's report for a plan's connections and times. */
  echo(plan) {
    return runLoad(this.#program, { ...plan, ...this.#echoPlan, pids: [this.#children.echo.child.pid] });
  }

  /** Each part but the echo, for one enrollment in groups of `batch`: microseconds on the clock, and of the CPU. */
  async parts(batch) {
    const { tbsBytes } = this.#sizes;
    const { hsm, parts } = this.#children;
    const time = (process, request) => ask(process, { ms: partMs, ...request });
    const rows = Math.max(1, Math.round(batch));
    const leafBytes = tbsBytes + leafOverheadBytes;
    return {
      import_key: await time(parts, { part: 'import' }),
      verify_csr: await time(parts, { part: 'verify-csr' }),
      verify_binding: await time(parts, { part: 'verify-binding' }),
      hsm_sign: await time(hsm, { part: 'sign' }),
      verify_signature: await time(parts, { part: 'verify-signature', tbsBytes }),
      row: share(rows, await time(parts, { part: 'commit', rows, leafBytes, ms: 2 * partMs })),
      checkpoint_sign: share(batch, await time(hsm, { part: 'checkpoint-sign' })),
      checkpoint_verify: share(batch, await time(parts, { part: 'verify-checkpoint' })),
    };
  }

  async stop() {
    await Promise.all(Object.values(this.#children).map((one) => end(one, 2_000)));
  }
}

function share(batch, { wall, cpu }) {
  return { wall: wall / batch, cpu: cpu / batch };
}

function child(core, module, args) {
  const [command, line] = pinned(core, process.execPath, [fileURLToPath(module), ...args]);
  return start(command, line, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
}

function ask(process, request) {
  const answered = reply(process);
  process.child.send(request);
  return answered;
}

function reply({ child: process, ended }) {
  return new Promise((resolve, reject) => {
    const stopListening = () => {
      clearTimeout(timer);
      process.removeListener('message', heard);
    };
    const heard = (message) => {
      stopListening();
      resolve(message);
    };
    const failed = (why) => {
      stopListening();
      reject(new Error(`a part of the floor ${why}`));
    };
    const timer = setTimeout(() => failed('does not answer'), replyTimeoutMs);
    process.on('message', heard);
    void ended.then(({ code }) => failed(`ended with exit ${code}`));
  });
}
