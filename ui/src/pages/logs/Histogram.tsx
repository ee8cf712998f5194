// How many lines when, errors and warnings at the bottom of each bar. Drag to look at a span.
import { useMemo } from 'react';
import type uPlot from 'uplot';
import { count, plural } from '../../lib/format';
import { Chart, type Line } from '../../ui/Chart';
import type { LogSearch } from './useLogSearch';

// Drawn one over the other, the tallest first: what is seen of each is its own share.
const LINES: Line[] = [
  { label: 'All', color: '--line-strong', kind: 'bars' },
  { label: 'Warnings and errors', color: '--warn', kind: 'bars' },
  { label: 'Errors', color: '--bad', kind: 'bars' },
];

export function Histogram({ search, onSpan }: { search: LogSearch; onSpan: (since: number, until: number) => void }) {
  const { histogram, range } = search;
  const data = useMemo((): uPlot.AlignedData => {
    const buckets = histogram?.buckets ?? [];
    const half = (histogram?.step_us ?? 0) / 2e6;
    return [
      buckets.map((own) => Date.parse(own.time) / 1000 + half),
      buckets.map((own) => own.total),
      buckets.map((own) => own.warn + own.error),
      buckets.map((own) => own.error),
    ];
  }, [histogram]);
  const errors = histogram?.buckets.reduce((sum, own) => sum + own.error, 0) ?? 0;
  const total = histogram?.buckets.reduce((sum, own) => sum + own.total, 0) ?? 0;
  return (
    <Chart
      label={`Lines over time: ${plural(total, 'line')}, ${plural(errors, 'error')}`}
      data={data}
      lines={LINES}
      height={92}
      unit={count}
      span={range}
      onSpan={onSpan}
    />
  );
}
