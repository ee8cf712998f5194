// The span of time that a page looks at. In the address it is either relative (`range=1h`: moves
// with the clock) or two moments (`since`, `until`: stays). Relative is turned into moments when
// the page asks, rounded so that the same question has the same address for a few seconds.

export const PRESETS = ['5m', '15m', '1h', '6h', '24h', '7d'] as const;
export type Preset = (typeof PRESETS)[number];
const DEFAULT: Preset = '1h';

export const PRESET_WORDS: Record<Preset, string> = {
  '5m': '5 minutes',
  '15m': '15 minutes',
  '1h': '1 hour',
  '6h': '6 hours',
  '24h': '24 hours',
  '7d': '7 days',
};

export interface Range {
  preset: Preset | null;
  /** Milliseconds since 1970. */
  since: number;
  until: number;
}

const MINUTE = 60_000;
const LENGTH: Record<Preset, number> = {
  '5m': 5 * MINUTE,
  '15m': 15 * MINUTE,
  '1h': 60 * MINUTE,
  '6h': 360 * MINUTE,
  '24h': 1440 * MINUTE,
  '7d': 10_080 * MINUTE,
};

/** What the address says, at this moment. */
export function rangeOf(query: URLSearchParams, now: number): Range {
  const since = Date.parse(query.get('since') ?? '');
  const until = Date.parse(query.get('until') ?? '');
  if (!Number.isNaN(since) && !Number.isNaN(until) && since < until) return { preset: null, since, until };
  const named = PRESETS.find((preset) => preset === query.get('range')) ?? DEFAULT;
  return { preset: named, since: now - LENGTH[named], until: now };
}

/** For the address: a chosen span. */
export function spanPatch(since: number, until: number): Record<string, string | null> {
  return { since: iso(since), until: iso(until), range: null };
}

export function presetPatch(preset: Preset): Record<string, string | null> {
  return { since: null, until: null, range: preset === DEFAULT ? null : preset };
}

/** Twice or half as long, or moved by half of it: around the same middle, never into the future. */
export function zoomed(range: Range, factor: number, now: number): [number, number] {
  const middle = (range.since + range.until) / 2;
  const half = ((range.until - range.since) / 2) * factor;
  const until = Math.min(now, middle + half);
  return [until - 2 * half, until];
}

export function iso(ms: number): string {
  return new Date(ms).toISOString();
}

/** A step for about so many points, from the usual ones. */
export function step(range: Range, points: number): number {
  const wanted = ((range.until - range.since) * 1000) / points;
  const usual = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400].map((seconds) => seconds * 1e6);
  return usual.find((size) => size >= wanted) ?? 86_400e6;
}
