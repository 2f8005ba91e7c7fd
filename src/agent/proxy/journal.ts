import type { Clock } from '../../core/clock.ts';

/** What happens at a proxy, as it is counted. */
export interface ProxyCounts {
  /** Let in, or connected to who was expected. */
  passed: number;
  /** Peers that were not who may be there. */
  refused: number;
  /** Handshakes that failed or took too long. */
  handshakesFailed: number;
  /** Past a limit. */
  overLimit: number;
  /** The other side of the proxy was not there. */
  unreachable: number;
  /** Open connections that were cut: revoked, no longer allowed, certificate ended. */
  cut: number;
  /** Silent for too long. */
  idle: number;
}

/** Longest time between two lines of one kind where it goes on and on. */
const quietMs = 10_000;

interface Kind {
  saidMs: number;
  /** Not said since. */
  kept: number;
  last: string;
}

/**
 * Counts and says what happens, and is not to be flooded by who is refused again and again: of each kind the first at
 * once, then a line in ten seconds with how many there were and the last of them.
 */
export class Journal {
  readonly counts: ProxyCounts = {
    passed: 0,
    refused: 0,
    handshakesFailed: 0,
    overLimit: 0,
    unreachable: 0,
    cut: 0,
    idle: 0,
  };
  readonly #kinds = new Map<string, Kind>();
  readonly #clock: Clock;
  readonly #notice: (line: string) => void;

  constructor(clock: Clock, notice: (line: string) => void) {
    this.#clock = clock;
    this.#notice = notice;
  }

  /** `code` is one of few: what a peer chooses must not make a kind. */
  tell(what: keyof ProxyCounts, line: string, code = ''): void {
    this.counts[what] += 1;
    const name = `${what} ${code}`;
    const kind = this.#kinds.get(name);
    if (kind === undefined) {
      this.#kinds.set(name, { saidMs: this.#clock.monotonicMs(), kept: 0, last: line });
      this.#notice(line);
      return;
    }
    kind.kept += 1;
    kind.last = line;
    this.look();
  }

  /** Says what was kept back long enough. */
  look(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [name, kind] of this.#kinds) {
      if (nowMs - kind.saidMs < quietMs) continue;
      if (kind.kept === 0) {
        this.#kinds.delete(name);
        continue;
      }
      this.#notice(kind.kept === 1 ? kind.last : `${kind.last} (and ${kind.kept - 1} more like it)`);
      kind.saidMs = nowMs;
      kind.kept = 0;
    }
  }
}
