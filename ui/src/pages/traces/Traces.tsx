// Traces: a search, their durations over time as points (red: failed), and the list. Two can be
// chosen and compared.
import { useCallback, useMemo, useState } from 'react';
import { at } from '../../api/paths';
import { useApi } from '../../api/use';
import { Link, useQuery } from '../../app/router';
import { toggled, hasTerm } from '../../lib/query';
import { iso } from '../../lib/range';
import { Search } from '../../ui/Field';
import { Empty, Given } from '../../ui/Notes';
import { RangePicker, useRange } from '../../ui/RangePicker';
import { Scatter } from './Scatter';
import { TraceList } from './TraceList';

const LIMIT = 500;

export default function Traces() {
  const [query, set] = useQuery();
  const q = query.get('q') ?? '';
  const order: 'duration' | 'time' = query.get('order') === 'duration' ? 'duration' : 'time';
  const [range, setSpan] = useRange(30_000);
  const [picked, setPicked] = useState<string[]>([]);
  const [before, setBefore] = useState<{ of: string; at: string } | null>(null);

  const asked = { q, since: iso(range.since), until: iso(range.until), order, limit: LIMIT };
  const question = `${q}|${order}|${query.get('since') ?? query.get('range') ?? ''}`;
  // The cursor belongs to one question; another begins at the top.
  const cursor = before?.of === question ? before.at : undefined;
  const found = useApi(at('/v1/traces', { ...asked, before: cursor }));
  const isMistake = found.error?.status === 400 || found.error?.status === 422;
  const onPick = useCallback((trace: string) => {
    setPicked((old) => (old.includes(trace) ? old.filter((own) => own !== trace) : [...old.slice(-1), trace]));
  }, []);
  const traces = useMemo(() => found.data?.traces ?? [], [found.data]);
  const errorsOnly = hasTerm(q, 'status', 'error');
  const [a, b] = picked;
  return (
    <>
      <h1 className="unseen">Traces</h1>
      <div className="bar">
        <Search
          label="Search traces"
          value={q}
          placeholder="service:orders duration:>100ms status:error"
          onChange={(next) => set({ q: next }, true)}
          trouble={isMistake ? found.error?.message : undefined}
        />
        <RangePicker range={range} />
        <button type="button" className="btn" aria-pressed={errorsOnly} onClick={() => set({ q: toggled(q, 'status', 'error') })}>
          Failed
        </button>
        <button type="button" className="btn" aria-pressed={order === 'duration'} onClick={() => set({ order: order === 'duration' ? null : 'duration' })}>
          Slowest first
        </button>
        {a !== undefined && b !== undefined && (
          <Link className="btn btn-main" to={`/traces/compare?a=${a}&b=${b}`}>
            Compare the two
          </Link>
        )}
      </div>
      <Scatter traces={traces} range={range} onSpan={setSpan} />
      <Given of={isMistake ? { ...found, error: undefined, data: found.data ?? { traces: [], next: null } } : found} rows={12}>
        {({ next }) =>
          traces.length === 0 ? (
            <Empty title="No trace matches">
              Look at a longer time, or search for less. Every request through the gateway or the mesh has a trace; <code>duration:&gt;100ms</code> finds slow ones.
            </Empty>
          ) : (
            <>
              <TraceList traces={traces} picked={picked} onPick={onPick} />
              {(next !== null || cursor !== undefined) && (
                <div className="bar">
                  {cursor !== undefined && (
                    <button type="button" className="btn" onClick={() => setBefore(null)}>
                      To the first
                    </button>
                  )}
                  {next !== null && (
                    <button type="button" className="btn" onClick={() => setBefore({ of: question, at: next })}>
                      The next {LIMIT}
                    </button>
                  )}
                </div>
              )}
            </>
          )
        }
      </Given>
    </>
  );
}
