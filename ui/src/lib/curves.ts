// The last hour of each service from the metrics of routes (who came from outside) and of calls
// (who came from other services). Rates add up; of percentiles the worst is shown, because they
// cannot be added.
import type { SeriesFound } from '../api/types';

export type Curves = Record<string, number[]>;

export function curves(found: (SeriesFound | undefined)[], join: 'sum' | 'max'): Curves {
  const all: Record<string, Map<number, number>> = {};
  for (const series of found.flatMap((own) => own?.series ?? [])) {
    const service = series.labels.service ?? series.labels.callee;
    if (service === undefined) continue;
    const own = (all[service] ??= new Map<number, number>());
    for (const [time, value] of series.points) {
      const old = own.get(time) ?? 0;
      own.set(time, join === 'sum' ? old + (value ?? 0) : Math.max(old, value ?? 0));
    }
  }
  return Object.fromEntries(
    Object.entries(all).map(([service, points]) => [service, [...points].sort(([a], [b]) => a - b).map(([, value]) => value)]),
  );
}
