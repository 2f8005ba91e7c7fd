import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, rfc3339 } from '../../core/clock.ts';
import { asVouchError, VouchError } from '../../core/errors.ts';
import { replaceFile } from '../deliver/durable-file.ts';
import type { Outcome } from '../deliver/paced-task.ts';
import type { TargetStatus } from '../deliver/targets.ts';
import { hasExpired, type Held } from '../held.ts';
import type { MtlsProxies } from '../proxy/mtls-proxies.ts';
import { isTransient } from '../retry.ts';
import type { SvidSlot } from './svid-slot.ts';

/** Its name in the agent's folder; 0644, it holds no secret. */
const statusFile = 'status.json';

/** Whether the server answers. */
export interface Reachability {
  isReachable: boolean;
  /** Unix milliseconds. */
  sinceMs: number;
  failure?: string;
}

/** What `vouch agent status --json` prints; times are RFC 3339. */
export interface AgentStatus {
  pid: number;
  startedAt: string;
  writtenAt: string;
  /** Null before there is an identity. */
  identity: { spiffeId: string; serial: string; notAfter: string; isExpired: boolean } | null;
  /** Why there is none, or why it is not renewed, and what is waited for; null where the last attempt succeeded. */
  identityFailure: (Failure & { waitsFor: string }) | null;
  server: { url: string | null; reachable: boolean; since: string | null; failure: string | null };
  /** Whether the server tells of changes by itself. */
  stream: boolean;
  cache: { keyIn: 'keyring' | 'file'; savedAt: string | null };
  entries: EntryStatus[];
  /** What `deliver:` and other parts say of themselves. */
  parts: Record<string, unknown>;
}

/** Of an attempt. */
interface Failure {
  code: string;
  detail: string;
  at: string;
}

/** Of the parts, what a terminal is shown. */
interface ShownParts {
  /** Why nobody can connect. */
  socket?: { problem?: string | null };
  deliver?: readonly TargetStatus[];
  proxy?: ReturnType<MtlsProxies['status']>;
}

/** One registration entry in it. */
interface EntryStatus {
  entryId: string;
  spiffeId: string;
  suspended: boolean;
  served: boolean;
  serial: string | null;
  notAfter: string | null;
  /** When it is asked for next. */
  due: string | null;
  failure: Failure | null;
}

/** Written where it is another than what was written last. */
export class StatusFile {
  readonly #path: string;
  readonly #notice: (line: string) => void;
  #written = '';
  #said = '';

  constructor(dir: string, notice: (line: string) => void) {
    this.#path = join(dir, statusFile);
    this.#notice = notice;
  }

  /** Never rejects: what cannot be written is said. */
  async write(status: AgentStatus): Promise<void> {
    const content = JSON.stringify({ ...status, writtenAt: '' });
    if (content === this.#written) return;
    try {
      await replaceFile(this.#path, `${JSON.stringify(status, undefined, 2)}\n`, 0o644);
      this.#written = content;
      this.#said = '';
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      if (detail !== this.#said) this.#notice(`the status cannot be written: ${detail}`);
      this.#said = detail;
    }
  }
}

/** The identity in it. */
export function identityStatus(held: Held, nowMs: number): AgentStatus['identity'] {
  const { leaf, spiffeId } = held.delivered;
  return {
    spiffeId,
    serial: leaf.serial,
    notAfter: rfc3339(leaf.notAfterMs),
    isExpired: hasExpired(held, nowMs),
  };
}

/** Why an attempt to get or renew it failed. */
export function identityFailure(
  error: unknown,
  joinFile: string,
  nowMs: number,
): AgentStatus['identityFailure'] {
  const { code, detail } = asVouchError(error);
  const waitsFor = isTransient(error) ? 'the server' : `another join file in place of ${joinFile}`;
  return { code, detail, at: rfc3339(nowMs), waitsFor };
}

/** The server in it. */
export function serverStatus(held: Held | undefined, reachability?: Reachability): AgentStatus['server'] {
  return {
    url: held?.state.server ?? null,
    reachable: reachability?.isReachable ?? false,
    since: reachability === undefined ? null : rfc3339(reachability.sinceMs),
    failure: reachability?.failure ?? null,
  };
}

/** An entry in it. */
export function entryStatus(slot: SvidSlot, clock: Clock): EntryStatus {
  const { entry, held, failure, due } = slot;
  return {
    entryId: entry.entryId,
    spiffeId: entry.spiffeId,
    suspended: entry.suspended,
    served: slot.svid(clock.now()) !== undefined,
    serial: held?.serial ?? null,
    notAfter: held === undefined ? null : rfc3339(held.notAfterMs),
    due: entry.suspended ? null : rfc3339(due.wallMs),
    failure:
      failure === undefined
        ? null
        : { code: failure.code, detail: failure.detail, at: rfc3339(failure.atMs) },
  };
}

/**
 * The status that the agent with this folder wrote last, with what has ended since by the wall clock `nowMs`. Throws `config-state`
 * where there is none.
 */
export function readStatus(dir: string, nowMs: number): AgentStatus {
  try {
    const status = JSON.parse(readFileSync(join(dir, statusFile), 'utf8')) as AgentStatus;
    const { identity } = status;
    if (identity === null) return status;
    return { ...status, identity: { ...identity, isExpired: nowMs > Date.parse(identity.notAfter) + 999 } };
  } catch (cause) {
    throw new VouchError(
      'config-state',
      `${dir} has no ${statusFile}: no agent ran there; name its folder with --dir`,
      { cause },
    );
  }
}

/** Whether the process that wrote it is there. */
export function isRunning({ pid }: AgentStatus): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** It runs, workloads can connect, and it is somebody: what it has no identity for any more it cannot keep fresh. */
export function isWell(status: AgentStatus): boolean {
  return (
    isRunning(status) &&
    !(status.parts as ShownParts).socket?.problem &&
    status.identity?.isExpired === false &&
    status.identityFailure?.code !== 'denied-revoked'
  );
}

/** For a terminal. */
export function statusText(status: AgentStatus): string {
  const { identity, identityFailure: failure, server, entries } = status;
  const { socket, deliver = [], proxy = [] } = status.parts as ShownParts;
  const lines = [
    isRunning(status)
      ? `running, pid ${status.pid}`
      : `NOT RUNNING: what follows is what pid ${status.pid} wrote at ${status.writtenAt}`,
    ...(socket?.problem ? [`WORKLOADS CANNOT CONNECT: ${socket.problem}`] : []),
    identity === null
      ? 'no identity yet'
      : `${identity.spiffeId}, serial ${identity.serial}, ${identity.isExpired ? 'EXPIRED' : 'valid until'} ${identity.notAfter}`,
    ...(failure
      ? [`  ${failure.at}: ${failure.detail} [${failure.code}]; it waits for ${failure.waitsFor}`]
      : []),
    `server ${server.url ?? 'unknown'} ${server.reachable ? 'reachable' : 'NOT REACHABLE'} since ${server.since ?? 'the start'}${server.failure === null ? '' : `: ${server.failure}`}`,
    `changes are ${status.stream ? 'told' : 'asked for'}; cache saved ${status.cache.savedAt ?? 'never'}, its key in the ${status.cache.keyIn}`,
    `${entries.length} registration entries, ${entries.filter(({ served }) => served).length} served`,
    ...entries.map(entryLine),
    ...deliver.flatMap(targetLines),
    ...proxy.map(
      ({ of, isServed, listen, to, open, passed, refused, unreachable }) =>
        `proxy ${listen} to ${to}: ${open} open, ${passed} let through, ${refused} refused, ${unreachable} times nobody there${isServed ? '' : `; WAITS FOR A CERTIFICATE OF ${of}`}`,
    ),
  ];
  return `${lines.join('\n')}\n`;
}

function entryLine(entry: EntryStatus): string {
  const { spiffeId, entryId, serial, notAfter, due, failure } = entry;
  const what = entry.suspended
    ? 'suspended'
    : serial === null
      ? 'no certificate'
      : `serial ${serial}, until ${notAfter}, renewal ${due}`;
  const why = failure === null ? '' : `; ${failure.at}: ${failure.detail} [${failure.code}]`;
  return `  ${spiffeId} (${entryId}): ${what}${why}`;
}

function targetLines({ of, dir, isServed, serial, notAfter, ...tasks }: TargetStatus): string[] {
  const what = serial === undefined ? 'nothing yet' : `serial ${serial}, until ${notAfter}`;
  const { files, crls, reload } = tasks;
  return [
    `${dir}: ${of}: ${what}${isServed ? '' : '; NO ENTRY GIVES IT NOW'}`,
    ...taskLine('files', files),
    ...taskLine('crl.pem', crls),
    ...(reload === undefined ? [] : taskLine('reload', reload)),
  ];
}

/** What is well is not worth a line. */
function taskLine(name: string, { waitingSince, lastFailure, failures }: Outcome): string[] {
  if (waitingSince === undefined || lastFailure === undefined || failures === undefined) return [];
  const { at, problem } = lastFailure;
  return [`  ${name} due since ${waitingSince}; failures: ${failures}, the last at ${at}: ${problem}`];
}
