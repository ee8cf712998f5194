// A short memory of what the live stream said: the last two minutes of rates and latencies, for
// curves that need no metric store, and processor use from the difference of two pictures.
import type { ServiceView } from '../api/types';

const KEPT = 120;

export interface Curve {
  rate: number[];
  errors: number[];
  p99: number[];
  cpu: number[];
  memory: number[];
}

/** By service, and by instance. */
export type Past = Record<string, Curve>;

const none: Curve = { rate: [], errors: [], p99: [], cpu: [], memory: [] };

export function remember(past: Past, services: ServiceView[], cpu: Record<string, number>): Past {
  const next: Past = {};
  for (const service of services) {
    const old = past[service.name] ?? none;
    next[service.name] = {
      rate: pushed(old.rate, service.requests_per_second),
      errors: pushed(old.errors, service.errors_per_second),
      p99: pushed(old.p99, service.p99_ms),
      cpu: service.instances.some((own) => own.id in cpu) ? pushed(old.cpu, sum(service.instances.map((own) => cpu[own.id] ?? 0))) : old.cpu,
      memory: pushed(old.memory, sum(service.instances.map((own) => own.memory))),
    };
    for (const own of service.instances) {
      const before = past[own.id] ?? none;
      const used = cpu[own.id];
      next[own.id] = { ...none, cpu: used === undefined ? before.cpu : pushed(before.cpu, used), memory: pushed(before.memory, own.memory) };
    }
  }
  return next;
}

/** Cores in use, from processor time in two pictures that are `elapsed` nanoseconds apart. */
export function cpuShares(
  before: ServiceView[],
  after: ServiceView[],
  elapsed: number,
  old: Record<string, number>,
): Record<string, number> {
  // Two pictures of nearly the same moment say nothing.
  if (elapsed < 100e6) return old;
  const used = new Map(before.flatMap((service) => service.instances.map((own) => [own.id, own.cpu_ns] as const)));
  const shares: Record<string, number> = {};
  for (const own of after.flatMap((service) => service.instances)) {
    const first = used.get(own.id);
    if (first !== undefined) shares[own.id] = Math.max(0, (own.cpu_ns - first) / elapsed);
  }
  return shares;
}

function pushed(values: number[], value: number): number[] {
  const next = [...values, value];
  return next.length > KEPT ? next.slice(-KEPT) : next;
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
