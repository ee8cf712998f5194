// Series of metrics made ready for a chart: one row of times, values beside it, joined by a label
// if asked. Counters and gauges add up; percentiles cannot, so of them the worst is taken.
import type { Series, SeriesFound } from '../api/types';

export type Join = 'sum' | 'max';

export interface Ready {
  /** Seconds since 1970. */
  times: number[];
  lines: { name: string; values: (number | null)[]; labels: Record<string, string> }[];
}

/** What the labels that differ among the series say; all series alike give an empty name. */
export function nameOf(labels: Record<string, string>, varying: string[]): string {
  const parts = varying.filter((label) => labels[label] !== undefined).map((label) => labels[label] ?? '');
  return parts.join(' · ');
}

export function varyingLabels(series: Series[]): string[] {
  const labels = [...new Set(series.flatMap((own) => Object.keys(own.labels)))];
  return labels.filter((label) => new Set(series.map((own) => own.labels[label])).size > 1);
}

export function ready(found: (SeriesFound | undefined)[], join: Join, by?: string): Ready {
  const series = found.flatMap((own) => own?.series ?? []);
  const times = [...new Set(series.flatMap((own) => own.points.map(([time]) => time)))].sort((a, b) => a - b);
  const place = new Map(times.map((time, at) => [time, at]));
  const varying = varyingLabels(series);
  const groups = new Map<string, Ready['lines'][number]>();
  for (const own of series) {
    const name = by === undefined ? nameOf(own.labels, varying) : by === '' ? '' : (own.labels[by] ?? '–');
    const line = groups.get(name) ?? { name, values: times.map(() => null), labels: own.labels };
    groups.set(name, line);
    for (const [time, value] of own.points) {
      const at = place.get(time);
      if (at !== undefined && value !== null) line.values[at] = joined(line.values[at] ?? null, value, join);
    }
  }
  return { times: times.map((time) => time / 1e6), lines: [...groups.values()] };
}

function joined(old: number | null, value: number, join: Join): number {
  if (old === null) return value;
  return join === 'sum' ? old + value : Math.max(old, value);
}

export interface Summary {
  last: number | null;
  min: number;
  max: number;
  mean: number;
}

export function summary(values: (number | null)[]): Summary {
  const own = values.filter((value) => value !== null);
  if (own.length === 0) return { last: null, min: 0, max: 0, mean: 0 };
  const total = own.reduce((sum, value) => sum + value, 0);
  return { last: values.at(-1) ?? own.at(-1) ?? null, min: Math.min(...own), max: Math.max(...own), mean: total / own.length };
}
