import { Gauge, type Registry } from 'prom-client';

/** A gauge that is read when Prometheus asks. */
export function gauge(registry: Registry, name: string, help: string, read: () => number): void {
  const made: Gauge = new Gauge({ name, help, registers: [registry], collect: () => made.set(read()) });
}
