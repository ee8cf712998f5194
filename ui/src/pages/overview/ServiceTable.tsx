// All services in one table: state, rate, errors, latency with the last hour as a curve.
import { useMemo } from 'react';
import type { ServiceView } from '../../api/types';
import { at } from '../../api/paths';
import { useApi } from '../../api/use';
import { Link } from '../../app/router';
import { curves } from '../../lib/curves';
import { duration, percent, rate } from '../../lib/format';
import type { Past } from '../../lib/past';
import { State } from '../../ui/Badges';
import { Spark } from '../../ui/Spark';

const MINUTE = 60_000;
const STEP_US = 60_000_000;

export function ServiceTable({ services, past }: { services: ServiceView[]; past: Past }) {
  const routeRate = useApi(at('/v1/metrics/series', { name: 'atoll_route_requests_total', stat: 'rate', step_us: STEP_US }), MINUTE).data;
  const callRate = useApi(at('/v1/metrics/series', { name: 'atoll_call_requests_total', stat: 'rate', step_us: STEP_US }), MINUTE).data;
  const routeSlow = useApi(at('/v1/metrics/series', { name: 'atoll_route_duration_seconds', stat: 'p99', step_us: STEP_US }), MINUTE).data;
  const callSlow = useApi(at('/v1/metrics/series', { name: 'atoll_call_duration_seconds', stat: 'p99', step_us: STEP_US }), MINUTE).data;
  const rates = useMemo(() => curves([routeRate, callRate], 'sum'), [routeRate, callRate]);
  const slow = useMemo(() => curves([routeSlow, callSlow], 'max'), [routeSlow, callSlow]);
  return (
    <div className="scroll-x">
      <table className="services">
        <thead>
          <tr>
            <th>Service</th>
            <th>State</th>
            <th className="right">Requests</th>
            <th className="wide">
              <span className="unseen">Requests in the last hour</span>
            </th>
            <th className="right">Errors</th>
            <th className="right">p99</th>
            <th className="wide">
              <span className="unseen">Latency in the last hour</span>
            </th>
            <th className="right wide">Revision</th>
            <th className="right wide">Instances</th>
            <th className="wide">Owner</th>
          </tr>
        </thead>
        <tbody>
          {services.map((own) => {
            const share = own.requests_per_second > 0 ? own.errors_per_second / own.requests_per_second : 0;
            return (
              <tr key={own.name}>
                <th scope="row">
                  <Link to={`/services/${own.name}`} className="service-name" title={own.description ?? ''}>
                    {own.name}
                  </Link>
                </th>
                <td>
                  <State state={own.state} />
                  {own.deployment !== null && <span className="dim small"> {own.step}</span>}
                </td>
                <td className="right num">{rate(own.requests_per_second)}</td>
                <td className="wide">
                  <Spark values={rates[own.name] ?? past[own.name]?.rate ?? []} />
                </td>
                <td className={share >= 0.01 ? 'right num bad' : share > 0 ? 'right num' : 'right num dim'}>{percent(share)}</td>
                <td className="right num">{own.p99_ms > 0 ? duration(own.p99_ms * 1000) : <span className="dim">–</span>}</td>
                <td className="wide">
                  <Spark values={slow[own.name] ?? past[own.name]?.p99 ?? []} tone={share >= 0.01 ? 'bad' : 'plain'} />
                </td>
                <td className="right num wide">{own.revision === null ? <span className="dim">–</span> : `r${own.revision}`}</td>
                <td className={own.serving < own.wanted ? 'right num wide bad' : 'right num wide'}>
                  {own.serving}/{own.wanted}
                </td>
                <td className="dim wide">{own.owner ?? ''}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
