import { setTimeout as sleep } from 'node:timers/promises';
import { callAdmin } from '../../src/cli/admin-client.ts';
import { adminPaths } from '../../src/wire/admin.ts';
import type { Authority } from '../kills/authority.ts';
import { kill, processesOf } from '../kills/processes.ts';
import { type Case, refusesPin } from './cases.ts';
import type { Control } from './control.ts';
import { type Enrolled, type Enroller, Load } from './enroller.ts';

interface SignerView {
  state: string;
  pid: number | null;
}

/** What one case took. */
export interface CaseResult {
  enrolled: number;
  /** Longest that one request waited. */
  slowestMs: number;
  /** From the moment at which the token was well again until the signer was usable. */
  backMs: number;
  problems: string[];
}

const clients = 4;
/** How long the token stays ill: less than the two seconds that every enrollment must outlast. */
const illMs = { once: 600, while: 1500 };
/** Before the fault and after it, so that it meets what is under way. */
const warmMs = 100;
const burst = 4;
/** An enrollment that is not done by then has failed. */
const patienceMs = 12_000;
const backWithinMs = 6_000;
/** A request's deadline, and what a machine of two cores with six busy processes needs besides. */
const requestMs = 3_000 + 1_500;
/** How long a refused PIN is watched for being presented again: a restart would take a third of it. */
const watchMs = 1_000;

/** Calls that a running signer makes only when a session was lost, or at a start. */
const atRenewal: ReadonlySet<string> = new Set([
  'C_OpenSession',
  'C_CloseSession',
  'C_FindObjectsInit',
  'C_FindObjects',
  'C_FindObjectsFinal',
]);
const atSigning: ReadonlySet<string> = new Set(['C_SignInit', 'C_Sign']);

/** Lives through one fault after another with the same server, which nobody restarts. */
export class Matrix {
  readonly #authority: Authority;
  readonly #control: Control;
  readonly #enroller: Enroller;

  constructor(parts: { authority: Authority; control: Control; enroller: Enroller }) {
    this.#authority = parts.authority;
    this.#control = parts.control;
    this.#enroller = parts.enroller;
  }

  async live(one: Case): Promise<CaseResult> {
    const problems: string[] = [];
    const load = one.occasion === 'load' ? new Load(this.#enroller, clients, patienceMs) : undefined;
    if (load) await sleep(warmMs);
    await this.#fallIll(one);
    await sleep(illMs[one.duration]);
    if (refusesPin(one)) problems.push(...(await this.#staysLocked()));
    this.#control.calm();
    if (refusesPin(one)) problems.push(...(await this.#unlock()));
    const wellMs = performance.now();
    const back = this.#usable();
    await sleep(warmMs);
    const enrolled = load ? await load.end() : await this.#burst();
    if (!(await back)) problems.push(`the signer is not usable ${backWithinMs} ms after the token is well`);
    const backMs = performance.now() - wellMs;
    problems.push(...enrolled.flatMap(problemsOf));
    if (enrolled.length === 0) problems.push('nobody enrolled');
    const slowestMs = Math.max(0, ...enrolled.map((each) => each.slowestMs));
    return { enrolled: enrolled.length, slowestMs, backMs, problems };
  }

  /** Sets the rule, and sees to it that the function is called. */
  async #fallIll({ ckr, call, occasion, duration }: Case): Promise<void> {
    const rule = `${call} error=${ckr}${duration === 'once' ? ' times=1' : ''}`;
    const losesSession = occasion === 'load' && atRenewal.has(call);
    this.#control.set(rule, ...(losesSession ? ['C_SignInit error=CKR_SESSION_HANDLE_INVALID times=1'] : []));
    if (losesSession || atSigning.has(call)) return;
    for (const { pid, role } of processesOf(this.#authority.folder)) if (role === 'signer') kill(pid);
  }

  /** A PIN that was refused is not presented again, whatever is asked meanwhile. */
  async #staysLocked(): Promise<string[]> {
    const isLocked = await until(async () => (await this.#signer()).state === 'unusable', backWithinMs);
    return isLocked ? [] : ['a refused PIN leaves the signer not unusable'];
  }

  /** The token would take the PIN now: nothing but the operator's word may have it presented. */
  async #unlock(): Promise<string[]> {
    await sleep(watchMs);
    const { state } = await this.#signer();
    const problems =
      state === 'unusable' ? [] : [`a refused PIN was presented again: the signer is ${state}`];
    await this.#authority.verb(['doctor', '--config', this.#authority.config, '--retry-signer']);
    return problems;
  }

  #usable(): Promise<boolean> {
    return until(async () => (await this.#signer()).state === 'usable', backWithinMs);
  }

  async #signer(): Promise<SignerView> {
    const { adminSocket } = this.#authority;
    return (await callAdmin<{ signer: SignerView }>(adminSocket, 'GET', adminPaths.status)).signer;
  }

  #burst(): Promise<Enrolled[]> {
    return Promise.all(Array.from({ length: burst }, () => this.#enroller.enroll(patienceMs)));
  }
}

function problemsOf({ failure, slowestMs }: Enrolled): string[] {
  const problems = failure === undefined ? [] : [`an enrollment failed: ${failure}`];
  if (slowestMs > requestMs) problems.push(`a request took ${Math.round(slowestMs)} ms`);
  return problems;
}

async function until(look: () => Promise<boolean>, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (performance.now() < deadline) {
    if (await look()) return true;
    await sleep(20);
  }
  return false;
}
