// Each trace a point: when, and how long (on a logarithmic scale, since slow ones are a hundred
// times slower). Click opens it, drag looks at a span.
import { useMemo } from 'react';
import type uPlot from 'uplot';
import type { TraceSummary } from '../../api/types';
import { go } from '../../app/router';
import { duration, plural } from '../../lib/format';
import type { Range } from '../../lib/range';
import { Chart, type Line } from '../../ui/Chart';

const LINES: Line[] = [
  { label: 'Done', color: '--accent', kind: 'points' },
  { label: 'Failed', color: '--bad', kind: 'points' },
];

export function Scatter({ traces, range, onSpan }: { traces: TraceSummary[]; range: Range; onSpan: (since: number, until: number) => void }) {
  const sorted = useMemo(() => [...traces].sort((a, b) => a.start.localeCompare(b.start)), [traces]);
  const data = useMemo(
    (): uPlot.AlignedData => [
      sorted.map((own) => Date.parse(own.start) / 1000),
      sorted.map((own) => (own.errors > 0 ? null : Math.max(1, own.duration_us))),
      sorted.map((own) => (own.errors > 0 ? Math.max(1, own.duration_us) : null)),
    ],
    [sorted],
  );
  const failed = traces.filter((own) => own.errors > 0).length;
  return (
    <section className="panel chart-panel" aria-label="Durations over time">
      <Chart
        label={`${plural(traces.length, 'trace')}, ${failed} failed. The list below has them all.`}
        data={data}
        lines={LINES}
        height={150}
        unit={duration}
        log
        span={range}
        onSpan={onSpan}
        onPoint={(_, index) => {
          const own = sorted[index];
          if (own) go(`/traces/${own.trace}`);
        }}
        tell={(_, index) => {
          const own = sorted[index];
          return own ? `${own.root_service} ${own.root_name}\n${duration(own.duration_us)}, ${plural(own.spans, 'span')}${own.errors > 0 ? `, ${plural(own.errors, 'error')}` : ''}` : '';
        }}
      />
    </section>
  );
}
