// Any metric over time: choose a name, narrow by labels, split by one, see deployments as dashed
// lines and exemplars as points that open their traces. All of it is in the address.
import { useMemo } from 'react';
import { at } from '../../api/paths';
import type { MetricName, Stat } from '../../api/types';
import { useApi } from '../../api/use';
import { useQuery } from '../../app/router';
import { iso, step } from '../../lib/range';
import { Empty, Given } from '../../ui/Notes';
import { RangePicker, useRange } from '../../ui/RangePicker';
import { useDeployMarks } from '../service/Curves';
import { Matches } from './Matches';
import { Names } from './Names';
import { Plot } from './Plot';

const POINTS = 180;
const EVERY = 15_000;
const STATS: Record<MetricName['kind'], Stat[]> = { counter: ['rate', 'value'], gauge: ['value'], histogram: ['p99', 'p95', 'p50', 'rate'] };

export default function Metrics() {
  const [query, set] = useQuery();
  const [range, setSpan] = useRange(EVERY);
  const names = useApi(at('/v1/metrics/names'));
  const name = query.get('name') ?? '';
  const match = query.get('match') ?? '';
  const by = query.get('by') ?? undefined;
  const metric = names.data?.find((own) => own.name === name);
  const stats = STATS[metric?.kind ?? 'gauge'];
  const stat = stats.find((own) => own === query.get('stat')) ?? stats[0] ?? 'value';
  const asked = { name, match, stat, since: iso(range.since), until: iso(range.until), step_us: step(range, POINTS) };
  const found = useApi(metric ? at('/v1/metrics/series', asked) : null);
  const marks = useDeployMarks(undefined, range);
  const seen = useMemo(() => found.data?.series ?? [], [found.data]);
  return (
    <>
      <div className="page-head">
        <h1>Metrics</h1>
        <RangePicker range={range} />
      </div>
      <Given of={names}>
        {(all) => (
          <div className="with-side with-names">
            <Names names={all} chosen={name} onChoose={(next) => set({ name: next, match: null, by: null, stat: null })} />
            <div className="stack">
              {!metric ? (
                <section className="panel">
                  <Empty title={name === '' ? 'Choose a metric' : `There is no metric '${name}'`}>
                    {all.length === 0 ? 'There are none yet: they come with the first request.' : 'The list has all that this node knows: its own, and those that services send by OTLP.'}
                  </Empty>
                </section>
              ) : (
                <>
                  <p className="dim">{metric.help}</p>
                  <div className="bar">
                    <div className="bar" role="group" aria-label="Statistic">
                      {stats.map((own) => (
                        <button key={own} type="button" className="btn btn-small" aria-pressed={own === stat} onClick={() => set({ stat: own })}>
                          {own}
                        </button>
                      ))}
                    </div>
                    <label className="check">
                      <span className="dim small">by</span>
                      <select value={by ?? '*'} onChange={(event) => set({ by: event.target.value === '*' ? null : event.target.value })}>
                        <option value="*">all labels</option>
                        {metric.labels.map((label) => (
                          <option key={label} value={label}>
                            {label}
                          </option>
                        ))}
                      </select>
                    </label>
                    <Matches metric={metric} series={seen} match={match} onMatch={(next) => set({ match: next })} />
                  </div>
                  <Given of={found}>
                    {(series) =>
                      series.series.length === 0 ? (
                        <Empty title="No numbers in this time">Look at a longer time, or take a label away.</Empty>
                      ) : (
                        <Plot metric={metric} stat={stat} found={series} by={by} range={range} marks={marks} onSpan={setSpan} />
                      )
                    }
                  </Given>
                </>
              )}
            </div>
          </div>
        )}
      </Given>
    </>
  );
}
