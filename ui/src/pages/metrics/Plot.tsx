// The curves of a metric, their table, and exemplars. Many curves at once tell nothing: the twelve
// highest are drawn, the table says how many there are, and a row shown alone is drawn alone.
import { useMemo, useState } from 'react';
import type uPlot from 'uplot';
import type { Exemplar, MetricName, SeriesFound, Stat } from '../../api/types';
import { go, Link } from '../../app/router';
import { bytes, duration, number, plural } from '../../lib/format';
import type { Range } from '../../lib/range';
import { ready, summary } from '../../lib/series';
import { inert, oneLine } from '../../lib/text';
import { Chart, type Line } from '../../ui/Chart';
import type { Mark } from '../../ui/chartparts';
import { Moment } from '../../ui/Time';

const DRAWN = 12;
const LISTED = 200;
const HUES = 8;

interface Props {
  metric: MetricName;
  stat: Stat;
  found: SeriesFound;
  by: string | undefined;
  range: Range;
  marks: Mark[];
  onSpan: (since: number, until: number) => void;
}

export function Plot({ metric, stat, found, by, range, marks, onSpan }: Props) {
  const [alone, setAlone] = useState<string | null>(null);
  const isPercentile = stat.startsWith('p');
  const all = useMemo(() => {
    const points = ready([found], isPercentile ? 'max' : 'sum', by);
    const lines = points.lines.map((line) => ({ ...line, sum: summary(line.values) })).sort((a, b) => b.sum.max - a.sum.max);
    return { times: points.times, lines };
  }, [found, by, isPercentile]);
  const drawn = (alone === null ? all.lines : all.lines.filter((line) => line.name === alone)).slice(0, DRAWN);
  const exemplars = useMemo(
    () => (isPercentile ? found.series.flatMap((own) => own.exemplars).sort((a, b) => a.time.localeCompare(b.time)).slice(-300) : []),
    [found, isPercentile],
  );
  const data = useMemo(() => withExemplars(all.times, drawn, exemplars), [all.times, drawn, exemplars]);
  const lines: Line[] = [
    ...drawn.map((line): Line => ({ label: line.name || metric.name, color: colorOf(all.lines.indexOf(line)), kind: 'line' })),
    ...(exemplars.length > 0 ? [{ label: 'Traces', color: '--text', kind: 'points' } satisfies Line] : []),
  ];
  const unit = unitOf(metric, stat);
  const hidden = Math.max(0, all.lines.length - LISTED);
  return (
    <>
      <section className="panel chart-panel">
        <Chart
          label={`${metric.name}, ${stat}: ${plural(all.lines.length, 'series', 'series')}`}
          data={data.table}
          lines={lines}
          height={300}
          unit={unit}
          span={range}
          marks={marks}
          onSpan={onSpan}
          onPoint={(_, index) => {
            const own = data.traces[index];
            if (own) go(`/traces/${own.trace}`);
          }}
          tell={(_, index) => {
            const own = data.traces[index];
            return own ? `${unit(own.value)}: open the trace` : '';
          }}
        />
      </section>
      <section className="panel scroll-x" aria-label="Series" tabIndex={0}>
        <table>
          <thead>
            <tr>
              <th>Series{isPercentile && by !== undefined ? ' (the worst of each)' : ''}</th>
              <th className="right">Last</th>
              <th className="right wide">Mean</th>
              <th className="right wide">Lowest</th>
              <th className="right">Highest</th>
            </tr>
          </thead>
          <tbody>
            {all.lines.slice(0, LISTED).map((line, at) => (
              <tr key={line.name}>
                <td>
                  <button type="button" className="linkish series-name" aria-pressed={alone === line.name} onClick={() => setAlone(alone === line.name ? null : line.name)}>
                    <span className="hue" style={{ background: at < DRAWN || alone === line.name ? `var(${colorOf(at)})` : 'transparent' }} /> {oneLine(line.name, 120) || inert(metric.name)}
                  </button>
                </td>
                <td className="right num">{line.sum.last === null ? '–' : unit(line.sum.last)}</td>
                <td className="right num wide">{unit(line.sum.mean)}</td>
                <td className="right num wide">{unit(line.sum.min)}</td>
                <td className="right num">{unit(line.sum.max)}</td>
              </tr>
            ))}
          </tbody>
        </table>
        {hidden > 0 && <p className="pad dim small">{plural(hidden, 'more line', 'more lines')}: choose a label above to narrow them down.</p>}
        {found.left_out > 0 && <p className="pad dim small">{plural(found.left_out, 'series is', 'series are')} too many, and not in these numbers: choose a label above to narrow them down.</p>}
      </section>
      {exemplars.length > 0 && (
        <details className="panel pad-details">
          <summary>Traces behind these numbers ({exemplars.length})</summary>
          <ul className="exemplars">
            {exemplars.slice(-40).map((own) => (
              <li key={own.trace + own.time}>
                <Link to={`/traces/${own.trace}`}>
                  <Moment time={own.time} /> {unit(own.value)}
                </Link>
              </li>
            ))}
          </ul>
        </details>
      )}
    </>
  );
}

function colorOf(at: number): string {
  return at === 0 ? '--accent' : `--hue-${at % HUES}`;
}

interface Table {
  table: uPlot.AlignedData;
  /** The exemplar at each place, where there is one. */
  traces: (Exemplar | undefined)[];
}

/** Exemplars fall between the steps: both are put onto one row of times. */
function withExemplars(times: number[], lines: { values: (number | null)[] }[], exemplars: Exemplar[]): Table {
  if (exemplars.length === 0) return { table: [times, ...lines.map((line) => line.values)], traces: [] };
  const rows = [
    ...times.map((time, at) => ({ time, at, own: undefined as Exemplar | undefined })),
    ...exemplars.map((own) => ({ time: Date.parse(own.time) / 1000, at: -1, own })),
  ].sort((a, b) => a.time - b.time);
  // Undefined, not null: uPlot draws through where a line has no step, and breaks where it has a hole.
  const values = lines.map((line) => rows.map((row) => (row.at === -1 ? undefined : line.values[row.at])));
  return { table: [rows.map((row) => row.time), ...values, rows.map((row) => row.own?.value ?? null)], traces: rows.map((row) => row.own) };
}

function unitOf(metric: MetricName, stat: Stat): (value: number) => string {
  const per = stat === 'rate' ? '/s' : '';
  if (stat === 'rate' && metric.kind === 'histogram') return (value) => `${number(value)}/s`;
  if (['bytes', 'By'].includes(metric.unit)) return (value) => `${bytes(value)}${per}`;
  // Seconds of work in a second.
  if (['seconds', 's'].includes(metric.unit) && stat === 'rate') return (value) => `${number(value)} s/s`;
  if (['seconds', 's'].includes(metric.unit)) return (value) => duration(value * 1e6);
  return (value) => `${number(value)}${per}`;
}
