// The last hour (or the range of the address) of a service: requests and failures, latency; with
// deployments as dashed lines. From outside and from other services together.
import { useMemo } from 'react';
import type uPlot from 'uplot';
import type { Stat, TimelineEvent } from '../../api/types';
import { at } from '../../api/paths';
import { isMissing, useApi } from '../../api/use';
import { duration, rate } from '../../lib/format';
import { iso, step, type Range } from '../../lib/range';
import { ready, type Join } from '../../lib/series';
import { Chart, type Line } from '../../ui/Chart';
import type { Mark } from '../../ui/chartparts';
import { RangePicker, useRange } from '../../ui/RangePicker';

const POINTS = 120;
const EVERY = 30_000;
const LOAD: Line[] = [
  { label: 'Requests', color: '--accent', kind: 'area' },
  { label: 'Answers 5xx', color: '--bad', kind: 'area' },
];
const SLOW: Line[] = [
  { label: 'p99', color: '--accent', kind: 'line' },
  { label: 'p95', color: '--hue-1', kind: 'line' },
  { label: 'p50', color: '--hue-7', kind: 'line' },
];

export function Curves({ service }: { service: string }) {
  const [range, setSpan] = useRange(EVERY);
  const marks = useDeployMarks(service, range);
  const requests = useBoth(service, range, 'requests_total', 'rate', 'sum');
  const known = useApi(at('/v1/metrics/names'));
  const failures = useBoth(service, range, 'requests_total', 'rate', 'sum', ',class:5xx');
  const p99 = useBoth(service, range, 'duration_seconds', 'p99', 'max');
  const p95 = useBoth(service, range, 'duration_seconds', 'p95', 'max');
  const p50 = useBoth(service, range, 'duration_seconds', 'p50', 'max');
  const load = useMemo(() => aligned([requests, failures]), [requests, failures]);
  const slow = useMemo(() => aligned([p99, p95, p50]), [p99, p95, p50]);
  if (isMissing(known)) return null;
  return (
    <section className="panel" aria-labelledby="curves">
      <header>
        <h2 id="curves">Over time</h2>
        <RangePicker range={range} />
      </header>
      <div className="pad two">
        <figure>
          <figcaption className="small dim">Requests, and answers 5xx</figcaption>
          <Chart label={`Requests of ${service} over time`} data={load} lines={LOAD} height={150} unit={rate} span={range} marks={marks} onSpan={setSpan} />
        </figure>
        <figure>
          <figcaption className="small dim">Latency: p99, p95, p50</figcaption>
          <Chart label={`Latency of ${service} over time`} data={slow} lines={SLOW} height={150} unit={(value) => duration(value * 1e6)} span={range} marks={marks} onSpan={setSpan} />
        </figure>
      </div>
    </section>
  );
}

interface Points {
  times: number[];
  values: (number | null)[];
}

/** A metric of routes and calls, as one row of values. */
function useBoth(service: string, range: Range, metric: string, stat: Stat, join: Join, match = ''): Points {
  const asked = { since: iso(range.since), until: iso(range.until), step_us: step(range, POINTS), stat };
  const routes = useApi(at('/v1/metrics/series', { ...asked, name: `atoll_route_${metric}`, match: `service:${service}${match}` })).data;
  const calls = useApi(at('/v1/metrics/series', { ...asked, name: `atoll_call_${metric}`, match: `callee:${service}${match}` })).data;
  return useMemo(() => {
    const all = ready([routes, calls], join, '');
    return { times: all.times, values: all.lines[0]?.values ?? [] };
  }, [routes, calls, join]);
}

/** The first has the times; of the others what they have at them. */
function aligned(rows: Points[]): uPlot.AlignedData {
  const times = rows[0]?.times ?? [];
  const values = rows.map((row) => {
    const at = new Map(row.times.map((time, index) => [time, row.values[index] ?? null]));
    return times.map((time) => at.get(time) ?? null);
  });
  return [times, ...values];
}

/** Where something was deployed; with the service's name, if it is not about one alone. */
export function useDeployMarks(service: string | undefined, range: Range): Mark[] {
  const found = useApi(at('/v1/timeline', { kind: 'deploy', service, since: iso(range.since), until: iso(range.until), limit: 100 })).data;
  return useMemo(() => {
    const told = service === undefined ? (event: TimelineEvent) => `${event.service}: ${event.message}` : (event: TimelineEvent) => event.message;
    return (found?.events ?? []).map((event) => ({ time: Date.parse(event.time), text: told(event), color: '--text' }));
  }, [found, service]);
}
