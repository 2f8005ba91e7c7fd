#!/usr/bin/env node
// `npm run bench`: how fast Vouch enrolls beside what cannot be avoided. docs/benchmarks/README.md says what is measured.
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { lastErrors, startAuthority } from './authority.mjs';
import { bootPairs } from './boot.mjs';
import { compare, median, rounded, summarize, table } from './figures.mjs';
import { startFloor } from './floor.mjs';
import { buildLoad, runLoad } from './load.mjs';
import { chooseCores, killAll, pinSelf, run } from './processes.mjs';
import { tbsOf, verifyAnswer } from './verify-answer.mjs';

const usage = `usage: npm run bench -- [--quick] [--json] [--seconds N] [--profile DIR]
  --quick      fewer and shorter rounds: under two minutes
  --json       the last line on stdout is one JSON object
  --seconds    length of each measurement under load
  --profile    writes a CPU profile of the server to DIR (the figures are then slower)`;

const root = fileURLToPath(new URL('../..', import.meta.url));
const connections = 64;
const warmupSeconds = 0.5;
/** For the first plan, which nothing is known for. */
const firstRate = 700;
/** A plan's tokens must last, also where it is faster than the one before. */
const tokenReserve = 1.3;
const samplesPerPlan = 8;
const pairsOfBoot = 9;
const limitMs = 20 * 60_000;

async function main() {
  const options = readOptions();
  if (options === undefined) return 2;
  const folder = mkdtempSync(join(tmpdir(), 'vouch-bench-'));
  const cleanUp = async () => {
    await killAll();
    rmSync(folder, { recursive: true, force: true });
  };
  const stop = (code) => void cleanUp().finally(() => process.exit(code));
  for (const [signal, code] of Object.entries({ SIGINT: 130, SIGTERM: 143, SIGHUP: 129 }))
    process.once(signal, () => stop(code));
  const limit = setTimeout(() => {
    console.error('bench: not done after 20 minutes');
    stop(1);
  }, limitMs);
  try {
    const figures = await measure(folder, options);
    if (!options.json) console.log(table(figures));
    else console.log(JSON.stringify(figures));
    return 0;
  } catch (error) {
    console.error(`bench: ${error.message}`);
    for (const line of lastErrors(folder)) console.error(`server: ${line}`);
    return 1;
  } finally {
    clearTimeout(limit);
    await cleanUp();
  }
}

function readOptions() {
  const text = { type: 'string' };
  const flag = { type: 'boolean', default: false };
  try {
    const { values } = parseArgs({ options: { quick: flag, json: flag, seconds: text, profile: text } });
    const { quick, json } = values;
    const profile = values.profile && resolve(values.profile);
    const seconds = Number(values.seconds ?? (quick ? 2 : 8));
    if (!(seconds >= 1 && seconds <= 60)) throw new Error('--seconds takes 1 to 60');
    if (Number(process.versions.node.split('.')[0]) < 22)
      throw new Error('needs Node 22.19 or newer: npm run bench');
    return { seconds, json, profile, rounds: quick ? 3 : 7 };
  } catch (error) {
    console.error(`bench: ${error.message}\n${usage}`);
    return undefined;
  }
}

/** Everything in one run on one pair of cores, the parts that are compared one right after the other. */
async function measure(folder, { seconds, rounds, profile }) {
  const cores = chooseCores();
  await run(process.execPath, [join(root, 'scripts/build.mjs'), '--if-changed']);
  progress('building the load generator');
  const program = await buildLoad(root, folder);
  await pinSelf(cores.load);
  progress('starting an authority');
  const authority = await startAuthority({ root, folder, core: cores.server, profileDir: profile });
  const bench = new Enrollments(authority, program);
  progress('warming up');
  const { sizes } = await bench.warmUp(cores.server);
  const identity = authority.identity();
  const floor = await startFloor({ root, folder, core: cores.server, program, identity, sizes });
  const plan = { core: cores.server, connections, warmupSeconds, seconds };
  progress('warming up the floor');
  await oneRound(bench, floor, { ...plan, seconds: 1 });
  const measured = [];
  for (let round = 1; round <= rounds; round += 1) {
    progress(`round ${round} of ${rounds}`);
    measured.push(await oneRound(bench, floor, plan));
  }
  await floor.stop();
  progress('starting workloads');
  const pairs = await bootPairs({ root, folder, tokens: await authority.createTokens(pairsOfBoot) });
  await authority.stop();
  return figuresOf(measured, pairs, sizes);
}

async function oneRound(bench, floor, plan) {
  const beside = async (connection) => {
    const enroll = await bench.enroll({ ...plan, connection });
    return { enroll, echo: await floor.echo({ ...plan, connection }) };
  };
  const keepalive = await beside('keepalive');
  // In groups as the server makes them of many requests at once; smaller ones elsewhere are no part of the floor.
  const parts = await floor.parts(keepalive.enroll.batch);
  const connect = await beside('new');
  return { keepalive: compare({ ...keepalive, parts }), connect: compare({ ...connect, parts }) };
}

function figuresOf(measured, pairs, sizes) {
  const keepalive = summarize(measured.map((round) => round.keepalive));
  const connect = summarize(measured.map((round) => round.connect));
  const boot = {
    enroll_ms: rounded(median(pairs.map(({ enroll }) => enroll))),
    node_ms: rounded(median(pairs.map(({ node }) => node))),
  };
  return {
    enroll_keepalive_to_floor: keepalive.ratio,
    enroll_connect_to_floor: connect.ratio,
    boot_to_node: rounded(median(pairs.map(({ node, enroll }) => enroll / node))),
    keepalive,
    connect,
    boot,
    bytes: { request: sizes.requestBytes, response: sizes.responseBytes, tbs: sizes.tbsBytes },
    connections,
    node: process.versions.node,
  };
}

/** Enrollments under load, with as many tokens as they will need. */
class Enrollments {
  #authority;
  #program;
  #identity;
  #rates = { keepalive: firstRate, new: firstRate / 2 };

  constructor(authority, program) {
    this.#authority = authority;
    this.#program = program;
    this.#identity = authority.identity();
  }

  /** Until V8 has compiled what is hot; returns what bodies and certificates measure. */
  async warmUp(core) {
    const plan = { core, connections, warmupSeconds, seconds: 1.5, mayEndEarly: true };
    await this.enroll({ ...plan, connection: 'new' });
    const enroll = await this.enroll({ ...plan, connection: 'keepalive' });
    const leaf = new X509Certificate(Buffer.from(enroll.samples[0].answer.chain[0], 'base64'));
    const { requestBytes, responseBytes } = enroll;
    return { sizes: { requestBytes, responseBytes, tbsBytes: tbsOf(leaf.raw).length } };
  }

  /** One plan; every answer was checked by the generator, and some are verified here again and whole. */
  async enroll(plan) {
    const planned = (plan.warmupSeconds + plan.seconds) * this.#rates[plan.connection];
    const made = await this.#authority.createTokens(Math.ceil(planned * tokenReserve) + connections);
    const tokens = made.map(({ token, spiffeId }) => ({ token, spiffeId }));
    const enroll = await runLoad(this.#program, {
      ...plan,
      kind: 'enroll',
      address: this.#authority.address,
      pids: this.#authority.pids,
      serverCertificateSha256: this.#identity.sha256,
      tokens,
      samples: samplesPerPlan,
    });
    if (enroll.seconds < plan.seconds / 2 && !plan.mayEndEarly)
      throw new Error(`the tokens lasted for ${enroll.seconds} of ${plan.seconds} s`);
    if (enroll.samples.length !== samplesPerPlan) throw new Error('the load generator gave too few samples');
    for (const sample of enroll.samples) verifyAnswer(sample, this.#authority.rootPin);
    this.#rates[plan.connection] = enroll.rate;
    return enroll;
  }
}

function progress(what) {
  console.error(`bench: ${(performance.now() / 1000).toFixed(0).padStart(3)} s  ${what}`);
}

process.exitCode = await main();
