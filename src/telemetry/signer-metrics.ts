import { Counter, Gauge, type Registry } from 'prom-client';
import { gauge } from './gauge.ts';

/** What is observed of the signer. */
export interface ObservedSigner {
  state: string;
  restarts: number;
  /** Unix milliseconds. */
  lastSuccessMs: number | undefined;
  sessions: Readonly<Record<'open' | 'wanted', number>> | undefined;
  /** By class. */
  failures: Readonly<Record<'session' | 'login' | 'process' | 'start' | 'late', number>>;
}

const states: readonly string[] = ['probing', 'usable', 'degraded', 'unusable'];

/** Registers what is to be seen of the signer: its state, its sessions, and what its failures took. */
export function observeSigner(registry: Registry, status: () => ObservedSigner): void {
  gauge(registry, 'vouch_signer_usable', '1 while the signer signs', () =>
    status().state === 'usable' ? 1 : 0,
  );
  gauge(
    registry,
    'vouch_signer_restarts',
    'Signer processes started again since the server started',
    () => status().restarts,
  );
  gauge(
    registry,
    'vouch_signer_last_success_seconds',
    'When the signer last answered, Unix time; 0 before it has',
    () => (status().lastSuccessMs ?? 0) / 1000,
  );
  const state: Gauge = new Gauge({
    name: 'vouch_signer_state',
    help: '1 for the state that the signer is in',
    labelNames: ['state'],
    registers: [registry],
    collect: () => {
      for (const one of states) state.set({ state: one }, one === status().state ? 1 : 0);
    },
  });
  const sessions: Gauge = new Gauge({
    name: 'vouch_signer_sessions',
    help: 'Sessions with the token: open, and wanted',
    labelNames: ['kind'],
    registers: [registry],
    collect: () => {
      for (const [kind, count] of Object.entries(status().sessions ?? { open: 0, wanted: 0 }))
        sessions.set({ kind }, count);
    },
  });
  const failures: Counter = new Counter({
    name: 'vouch_signer_failures_total',
    help: 'Failures by what they took: a new session, a login, a process, a start; or late calls',
    labelNames: ['class'],
    registers: [registry],
    collect: () => {
      failures.reset();
      for (const [kind, count] of Object.entries(status().failures)) failures.inc({ class: kind }, count);
    },
  });
}
