import { access, readlink, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileNames } from '../../client/delivered.ts';
import type { DeliverTarget } from '../../config/deliver-config.ts';
import { type Clock, rfc3339 } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import type { Sleep } from '../sleep.ts';
import type { Served, Svid, Withheld } from '../workloads.ts';
import { replaceFile } from './durable-file.ts';
import { crlFile, deliverFiles } from './files.ts';
import { type Change, minIntervalMs } from './hook.ts';
import { type Exclusively, oneAtATime } from '../one-at-a-time.ts';
import { type Outcome, type Pace, PacedTask } from './paced-task.ts';
import { reloadOnce } from './reload.ts';
import { holdsCrls, isDelivered, targetFiles, targetOwner } from './target-files.ts';
import { makeTrustedFolder } from './trusted-folder.ts';

/** What targets are delivered with. */
export interface DeliverParts {
  clock: Clock;
  /** A line for the agent's log. */
  notice: (line: string) => void;
  /** What the agent does not serve now, and why. */
  withheld: () => readonly Withheld[];
  sleep?: Sleep;
  /** Is called when `status()` is another. */
  statusChanged?: () => void;
}

/** How one target is; times in RFC 3339. */
export interface TargetStatus {
  /** SPIFFE ID or entry, as configured. */
  of: string;
  dir: string;
  /** False while no entry gives it to this agent. */
  isServed: boolean;
  /** Of what was delivered; absent before. */
  serial?: string;
  notAfter?: string;
  files: Outcome;
  crls: Outcome;
  reload?: Outcome;
}

/** Keeps the folders of `deliver:` as what the agent serves; each target for itself. */
export class DeliverTargets {
  readonly #stop = new AbortController();
  readonly #targets: readonly Target[];

  constructor(targets: readonly DeliverTarget[], parts: DeliverParts) {
    // One queue for all: CRLs are large, and are encoded in slices of which only one at a time may run.
    const shared = { ...parts, signal: this.#stop.signal, exclusively: oneAtATime() };
    this.#targets = targets.map((config) => new Target(config, shared));
  }

  /** Takes note of what is served now; returns at once. */
  take(served: Served): void {
    for (const target of this.#targets) target.take(served);
  }

  status(): readonly TargetStatus[] {
    return this.#targets.map((target) => target.status());
  }

  /** What is being written is written to its end; what is not begun, and a reload that is due, come with the next start. */
  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#targets.map((target) => target.ended()));
  }
}

const backoff = { baseMs: 1000, capMs: 30_000 };
/** Of the time, what writing crl.pem may take: a million entries are 70 MB. */
const crlShare = 0.2;
/** What takes less may follow at once. */
const quickMs = 100;
/** In a target's folder until its software has been told of what changed there, over a crash and a restart. */
const dueMarker = '.reload-due';

class Target {
  readonly #config: DeliverTarget;
  readonly #parts: DeliverParts & { exclusively: Exclusively };
  readonly #files: PacedTask<'certificate'>;
  readonly #crls: PacedTask<'crl'>;
  readonly #reload: PacedTask<Change> | undefined;
  #served: Served | undefined;
  /** What the files were made of; undefined until the first are delivered, or found delivered. */
  #madeOf: { svid: Svid; roots: readonly Buffer[]; issuers: readonly Buffer[] } | undefined;
  #crlsInFile: readonly Buffer[] | undefined;
  #isMissing = false;
  #dir: string | undefined;
  /** What changed in the folder, or may have, since the reload was last asked for. */
  readonly #untold = new Set<Change>();
  /** Counts what the software is to be told. */
  #due = 0;

  constructor(
    config: DeliverTarget,
    parts: DeliverParts & { signal: AbortSignal; exclusively: Exclusively },
  ) {
    this.#config = config;
    this.#parts = parts;
    const { exclusively, statusChanged: outcomeChanged, ...shared } = parts;
    const pace = (name: string, restMs: Pace['restMs']): Pace => ({
      ...shared,
      name,
      backoff,
      restMs,
      outcomeChanged,
    });
    this.#files = new PacedTask(
      () => exclusively(() => problemOf(() => this.#deliver())),
      pace(`delivery of ${this.#of} to ${config.dir}`, () => 0),
    );
    this.#crls = new PacedTask(
      () => exclusively(() => problemOf(() => this.#deliverCrls())),
      pace(`delivery of CRLs to ${config.dir}`, (tookMs) =>
        tookMs > quickMs ? tookMs / crlShare - tookMs : 0,
      ),
    );
    const { reload } = config;
    if (reload !== undefined)
      this.#reload = new PacedTask(
        async (changes) => {
          const told = this.#due;
          const change = changes.has('certificate') ? 'certificate' : 'crl';
          const { dir } = config;
          const problem = await reloadOnce(reload, { dir, change, signal: parts.signal });
          if (problem === undefined) await exclusively(() => this.#told(told));
          return problem;
        },
        pace(`reload after delivery to ${config.dir}`, () => minIntervalMs),
      );
  }

  take(served: Served): void {
    this.#served = served;
    this.#files.changed('certificate');
    this.#crls.changed('crl');
  }

  status(): TargetStatus {
    const svid = this.#madeOf?.svid;
    return {
      of: this.#of,
      dir: this.#config.dir,
      isServed: this.#served !== undefined && !this.#isMissing,
      ...(svid && { serial: svid.serial, notAfter: rfc3339(svid.notAfterMs) }),
      files: this.#files.outcome,
      crls: this.#crls.outcome,
      ...(this.#reload && { reload: this.#reload.outcome }),
    };
  }

  async ended(): Promise<void> {
    await Promise.all([this.#files.ended(), this.#crls.ended(), this.#reload?.ended()]);
  }

  get #of(): string {
    return this.#config.id ?? this.#config.entry ?? '';
  }

  async #deliver(): Promise<void> {
    if (this.#served === undefined) return;
    const { svids, trust } = this.#served;
    const { id, entry } = this.#config;
    const svid = svids.find(({ spiffeId, entryId }) => spiffeId === id || entryId === entry);
    if (svid === undefined) return this.#missing();
    this.#isMissing = false;
    const { roots, issuers } = trust;
    const madeOf = this.#madeOf;
    if (madeOf?.svid === svid && areEqual(madeOf.roots, roots) && areEqual(madeOf.issuers, issuers)) return;
    const dir = await this.#folder();
    const owner = targetOwner(this.#config);
    const files = await targetFiles(this.#config, svid, trust);
    if (!(await isDelivered(join(dir, 'current'), files, owner))) {
      await this.#changes(dir, 'certificate', () =>
        deliverFiles(dir, [...files, crlFile(trust.crls)], owner),
      );
      this.#crlsInFile = trust.crls;
      const until = rfc3339(svid.notAfterMs);
      this.#parts.notice(`${dir}: ${svid.spiffeId}, serial ${svid.serial}, valid until ${until}`);
    }
    this.#tell();
    this.#madeOf = { svid, roots, issuers };
  }

  /** Said once. What is delivered is never taken away: it is valid for as long as it says. */
  #missing(): void {
    if (this.#isMissing) return;
    this.#isMissing = true;
    const { dir } = this.#config;
    const left = this.#madeOf?.svid;
    this.#parts.notice(
      left === undefined
        ? `${dir} waits for ${this.#waitsFor()}`
        : `${this.#of} ${this.#whyGone(left)}. The files in ${dir} stay, valid until ${rfc3339(left.notAfterMs)}`,
    );
  }

  #waitsFor(): string {
    const withheld = this.#withheld();
    return withheld === undefined
      ? `an entry that gives ${this.#of} to this agent (\`vouch entry create --parent\`)`
      : `the certificate of ${withheld.spiffeId} (entry ${withheld.entryId}): ${withheld.why}`;
  }

  #whyGone({ notAfterMs }: Svid): string {
    const withheld = this.#withheld();
    if (withheld === undefined) return 'is no longer given to this agent: its entry is gone';
    return notAfterMs <= this.#parts.clock.now()
      ? `has expired, and there is no other yet: ${withheld.why}`
      : `is not served now: ${withheld.why}`;
  }

  #withheld(): Withheld | undefined {
    const { id, entry } = this.#config;
    return this.#parts.withheld().find(({ spiffeId, entryId }) => spiffeId === id || entryId === entry);
  }

  /** In place, in the generation that is current: certificate and key stay. */
  async #deliverCrls(): Promise<void> {
    const crls = this.#served?.trust.crls;
    if (crls === undefined || (this.#crlsInFile && areEqual(this.#crlsInFile, crls))) return;
    const dir = await this.#folder();
    const generation = await readlink(join(dir, 'current')).catch(() => undefined);
    if (generation === undefined) return;
    const path = join(dir, generation, fileNames.crl);
    if (this.#crlsInFile !== undefined || !(await holdsCrls(path, crls))) {
      const { content, mode } = crlFile(crls);
      const owner = targetOwner(this.#config);
      await this.#changes(dir, 'crl', () => replaceFile(path, content, mode, owner));
    }
    this.#tell();
    this.#crlsInFile = crls;
  }

  /** The folder, each time looked at anew. The first time a reload that a run before us left is taken up. */
  async #folder(): Promise<string> {
    const dir = await makeTrustedFolder(this.#config.dir);
    const isFirst = this.#dir === undefined;
    this.#dir = dir;
    if (isFirst && this.#reload !== undefined && (await exists(join(dir, dueMarker))))
      this.#reload.changed('certificate');
    return dir;
  }

  /** Changes files; the note that software is to be told is made before, so that neither a crash nor a failure forgets it. */
  async #changes(dir: string, change: Change, write: () => Promise<void>): Promise<void> {
    if (this.#config.reload?.on.includes(change)) {
      this.#due += 1;
      this.#untold.add(change);
      await writeFile(join(dir, dueMarker), '');
    }
    await write();
  }

  #tell(): void {
    for (const change of this.#untold) this.#reload?.changed(change);
    this.#untold.clear();
  }

  /** Takes the note away, unless more has changed since the reload began. */
  async #told(due: number): Promise<void> {
    if (due === this.#due && this.#dir !== undefined) await rm(join(this.#dir, dueMarker), { force: true });
  }
}

function areEqual(some: readonly Buffer[], others: readonly Buffer[]): boolean {
  return (
    some === others ||
    (some.length === others.length && some.every((der, index) => others[index]?.equals(der)))
  );
}

async function problemOf(work: () => Promise<void>): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (error instanceof VouchError) return error.detail;
    return error instanceof Error ? error.message : String(error);
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
