import type { Random } from './random.ts';

/** Whom to kill, and when. */
export interface Plan {
  victim: 'server' | 'signer' | 'both';
  /** What the delay is counted from. `start`: of the server that is starting; the others need one that is ready. */
  after: 'start' | 'ready' | 'certificate' | 'revoking' | 'revoked';
  delayMs: number;
}

/** Longest delay by what it is counted from: long enough to pass the step that is aimed at. */
const delaysMs: Record<Plan['after'], number> = {
  start: 1200,
  ready: 700,
  certificate: 8,
  revoking: 60,
  revoked: 15,
};

/** Draws the next kill. `isStarting`: a server was just started, so that one can be killed that is not ready yet. */
export function planKill(random: Random, isStarting: boolean): Plan {
  const after = isStarting && random.chance(0.12) ? 'start' : aim(random);
  const delayMs = random.between(0, delaysMs[after]);
  return { victim: victimOf(random, after), after, delayMs };
}

/** Half of them anywhere, half of them close to what must not be torn apart. */
function aim(random: Random): Plan['after'] {
  if (random.chance(0.5)) return 'ready';
  return (
    random.pick(['certificate', 'certificate', 'revoking', 'revoking', 'revoked', 'revoked'] as const) ??
    'ready'
  );
}

function victimOf(random: Random, after: Plan['after']): Plan['victim'] {
  const number = random.unit();
  if (number < 0.12) return 'both';
  return number < (after === 'start' ? 0.7 : 0.6) ? 'server' : 'signer';
}
