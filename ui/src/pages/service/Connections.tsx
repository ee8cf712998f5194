// How a service is reached and whom it reaches: its routes at the edge, its callers and what it
// calls, with traffic.
import { at } from '../../api/paths';
import type { MapEdge, MapView, RouteLoad } from '../../api/types';
import type { ServiceView } from '../../api/types';
import { isMissing, useApi } from '../../api/use';
import { Link } from '../../app/router';
import { duration, percent, rate } from '../../lib/format';
import { placeOf, titleOf } from '../../lib/places';
import { oneLine } from '../../lib/text';
import { Tag } from '../../ui/Badges';
import { Empty, Given } from '../../ui/Notes';

const SHOWN = 50;

export function Connections({ service }: { service: ServiceView }) {
  const map = useApi(at('/v1/map'), 10_000);
  const routes = useApi(at('/v1/routes', { service: service.name }), 10_000);
  return (
    <>
      <section className="panel" aria-labelledby="routes">
        <header>
          <h2 id="routes">Routes at the edge</h2>
        </header>
        {service.routes.length === 0 ? (
          <Empty title="None">Nobody outside reaches it. A [[route]] in its service.toml would change that.</Empty>
        ) : (
          <ul className="pad routes">
            {service.routes.map((route) => (
              <li key={route} className="mono">
                {route}
              </li>
            ))}
          </ul>
        )}
      </section>
      {!isMissing(routes) && (
        <Given of={routes} rows={4}>
          {(own) => <Loads routes={own} />}
        </Given>
      )}
      {!isMissing(map) && (
      <Given of={map} rows={4}>
        {(view) => (
          <div className="two">
            <Edges title="Who calls it" edges={view.edges.filter((own) => own.to === service.name)} view={view} other="from" />
            <Edges title="Whom it calls" edges={view.edges.filter((own) => own.from === service.name)} view={view} other="to" />
          </div>
        )}
      </Given>
      )}
    </>
  );
}

/** What was really asked for, the most first. */
function Loads({ routes }: { routes: RouteLoad[] }) {
  return (
    <section className="panel" aria-labelledby="loads">
      <header>
        <h2 id="loads">What was asked for in the last hour</h2>
      </header>
      {routes.length === 0 ? (
        <Empty title="Nothing in the last hour" />
      ) : (
        <div className="scroll-x" tabIndex={0} role="region" aria-label="What was asked for, table">
          <table>
            <thead>
              <tr>
                <th>Route</th>
                <th className="right">Rate</th>
                <th className="right">Errors</th>
                <th className="right">p50</th>
                <th className="right">p95</th>
                <th className="right">p99</th>
              </tr>
            </thead>
            <tbody>
              {routes
                .toSorted((a, b) => b.rate - a.rate)
                .slice(0, SHOWN)
                .map((own) => (
                  <tr key={own.route}>
                    <td className="mono">{oneLine(own.route, 120)}</td>
                    <td className="right num">{rate(own.rate)}</td>
                    <Errors of={own} />
                    <td className="right num">{duration(own.p50_us)}</td>
                    <td className="right num">{duration(own.p95_us)}</td>
                    <td className="right num">{duration(own.p99_us)}</td>
                  </tr>
                ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function Errors({ of }: { of: { rate: number; error_rate: number } }) {
  const share = of.rate > 0 ? of.error_rate / of.rate : 0;
  return <td className={share >= 0.01 ? 'right num bad' : 'right num dim'}>{percent(share)}</td>;
}

function Edges({ title, edges, view, other }: { title: string; edges: MapEdge[]; view: MapView; other: 'from' | 'to' }) {
  return (
    <section className="panel" aria-label={title}>
      <header>
        <h2>{title}</h2>
      </header>
      {edges.length === 0 ? (
        <Empty title="Nobody in the last hour" />
      ) : (
        <div className="scroll-x">
          <table>
            <thead>
              <tr>
                <th>Name</th>
                <th>How</th>
                <th className="right">Rate</th>
                <th className="right">Errors</th>
                <th className="right">p99</th>
              </tr>
            </thead>
            <tbody>
              {edges.map((own) => (
                <tr key={`${own[other]}-${own.kind}`}>
                  <td>
                    <Link to={placeOf(own[other], view)}>{titleOf(own[other])}</Link>
                  </td>
                  <td>
                    <Tag>{own.kind}</Tag>
                  </td>
                  <td className="right num">{rate(own.rate)}</td>
                  <Errors of={own} />
                  <td className="right num">{own.p99_us > 0 ? duration(own.p99_us) : '–'}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
