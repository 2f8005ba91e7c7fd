import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import { type ClientsOrder, type Command, type KillsEvent, monotonicNs } from './history.ts';

interface Waiter {
  kind: KillsEvent['kind'];
  resolve: (came: boolean) => void;
}

/** The other end of clients.ts: starts it, hears what it saw, ends it. */
export class ClientsProcess {
  /** Called with every event, in order. */
  onEvent: (event: KillsEvent) => void = () => undefined;
  readonly #waiters = new Set<Waiter>();
  #child: ChildProcess | undefined;
  #isEnding = false;

  get isAlive(): boolean {
    return this.#child?.exitCode === null && this.#child.signalCode === null;
  }

  begin(order: ClientsOrder): void {
    const child = fork(join(import.meta.dirname, 'run.mjs'), {
      env: { ...process.env, VOUCH_KILLS_ROLE: 'clients' },
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#child = child;
    child.on('message', (event: KillsEvent) => this.#hear(event));
    child.once('exit', (code) => {
      if (this.#isEnding) return;
      this.onEvent({
        kind: 'fault',
        atNs: monotonicNs(),
        verdict: 'faults',
        what: `the clients' process ended (${code})`,
      });
      for (const waiter of this.#waiters) waiter.resolve(false);
    });
    this.tell({ command: 'start', order });
  }

  tell(command: Command): void {
    if (this.#child?.connected === true) this.#child.send(command);
  }

  /** Resolves when the next event of a kind comes; false where none does in time. */
  next(kind: KillsEvent['kind'], timeoutMs: number): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const waiter = { kind, resolve };
    this.#waiters.add(waiter);
    const timer = setTimeout(() => resolve(false), timeoutMs);
    return promise.finally(() => {
      clearTimeout(timer);
      this.#waiters.delete(waiter);
    });
  }

  end(): void {
    this.#isEnding = true;
    this.#child?.kill('SIGKILL');
  }

  #hear(event: KillsEvent): void {
    this.onEvent(event);
    for (const waiter of this.#waiters) if (waiter.kind === event.kind) waiter.resolve(true);
  }
}
