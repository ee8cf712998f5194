// The span of time: usual lengths, the chosen span, earlier and later, wider. It lives in the
// address. Relative spans move with the clock every few seconds.
import { useMemo } from 'react';
import { useQuery } from '../app/router';
import { day, duration } from '../lib/format';
import { presetPatch, PRESETS, PRESET_WORDS, rangeOf, spanPatch, zoomed, type Preset, type Range } from '../lib/range';
import { useNow } from './Time';

/** The page's range; a relative one is looked at anew every `every` milliseconds. */
export function useRange(every = 10_000): [Range, (since: number, until: number) => void] {
  const [query, set] = useQuery();
  const now = useNow(every);
  const range = useMemo(() => rangeOf(query, now), [query, now]);
  return [range, (since, until) => set(spanPatch(since, until))];
}

export function RangePicker({ range }: { range: Range }) {
  const [, set] = useQuery();
  const chosen = range.preset ?? 'chosen';
  const move = ([since, until]: [number, number]) => set(spanPatch(since, until));
  const half = (range.until - range.since) / 2;
  return (
    <div className="range" role="group" aria-label="Time range">
      <button type="button" className="btn btn-small" aria-label="Earlier" title="Earlier" onClick={() => move([range.since - half, range.until - half])}>
        ‹
      </button>
      <select
        aria-label="Time range"
        value={chosen}
        onChange={(event) => {
          const preset = PRESETS.find((own) => own === event.target.value);
          if (preset) set(presetPatch(preset));
        }}
      >
        {PRESETS.map((preset: Preset) => (
          <option key={preset} value={preset}>
            Last {PRESET_WORDS[preset]}
          </option>
        ))}
        {range.preset === null && (
          <option value="chosen">
            {day(range.since)} + {duration((range.until - range.since) * 1000)}
          </option>
        )}
      </select>
      <button
        type="button"
        className="btn btn-small"
        aria-label="Later"
        title="Later"
        disabled={range.preset !== null}
        onClick={() => {
          const until = Math.min(Date.now(), range.until + half);
          move([until - 2 * half, until]);
        }}
      >
        ›
      </button>
      <button type="button" className="btn btn-small" aria-label="Wider" title="Wider" onClick={() => move(zoomed(range, 2, Date.now()))}>
        ⇔
      </button>
    </div>
  );
}
