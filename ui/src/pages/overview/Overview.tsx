// The first page on a bad night: what is wrong, worst first, each a click from where it is seen;
// then all services with how they do. When nothing is wrong it says so in one calm line.
import { useMemo, useState } from 'react';
import { at } from '../../api/paths';
import { useApi } from '../../api/use';
import { useLive } from '../../app/live';
import { Link } from '../../app/router';
import { whatIsWrong, type Wrong } from '../../lib/wrong';
import { Dot } from '../../ui/Badges';
import { Icon } from '../../ui/Icon';
import { Empty, Failure, Loading } from '../../ui/Notes';
import { Ago } from '../../ui/Time';
import { Recent } from './Recent';
import { ServiceTable } from './ServiceTable';
import { TopErrors } from './TopErrors';

const SLOW = 15_000;
/** The worst; the rest is a click away, so that the services stay in sight. */
const SHOWN = 6;

export function Overview() {
  const live = useLive();
  const node = useApi(at('/v1/node'), 30_000).data;
  const resilience = useApi(at('/v1/resilience'), SLOW).data;
  const readers = useApi(at('/v1/readers'), SLOW).data;
  const letters = useApi(at('/v1/dead', { limit: 1000 }), SLOW).data;
  const outboxes = useApi(at('/v1/outboxes'), SLOW).data;
  const errors = useApi(at('/v1/errors'), SLOW);
  const [filter, setFilter] = useState('');

  const services = live.services;
  const wrong = useMemo(
    () =>
      whatIsWrong({
        services: services ?? [],
        alerts: live.alerts ?? [],
        resilience,
        readers: readers ?? [],
        letters: letters?.letters ?? [],
        outboxes: outboxes ?? [],
        node,
      }),
    [services, live.alerts, resilience, readers, letters, outboxes, node],
  );
  if (services === undefined) return live.error ? <Failure error={live.error} /> : <Loading rows={10} />;
  const shown = services.filter((own) => `${own.name} ${own.owner ?? ''} ${own.state}`.toLowerCase().includes(filter.toLowerCase()));
  return (
    <>
      <h1 className="unseen">Overview</h1>
      <WrongNow wrong={wrong} services={services.length} />
      <section className="panel" aria-labelledby="services">
        <header>
          <h2 id="services">Services</h2>
          <input
            type="search"
            className="filter"
            data-search=""
            aria-label="Filter services"
            placeholder="Name, owner, state"
            value={filter}
            onChange={(event) => setFilter(event.target.value)}
          />
        </header>
        {services.length === 0 ? (
          <Empty title="No services yet">
            <code>atoll new service</code> makes one; <code>atoll up</code> starts it.
          </Empty>
        ) : shown.length === 0 ? (
          <Empty title="No service matches">Clear the filter to see all {services.length}.</Empty>
        ) : (
          <ServiceTable services={shown} past={live.past} />
        )}
      </section>
      <div className="two">
        <TopErrors errors={errors} />
        <Recent />
      </div>
    </>
  );
}

function WrongNow({ wrong, services }: { wrong: Wrong[]; services: number }) {
  const [all, setAll] = useState(false);
  if (wrong.length === 0) {
    return (
      <p className="all-well">
        <Dot tone="ok" /> All is well: {services} services, nothing fails.
      </p>
    );
  }
  const shown = all ? wrong : wrong.slice(0, SHOWN);
  return (
    <section aria-labelledby="wrong" className="wrong">
      <h2 id="wrong">
        Wrong now <span className="tab-count">{wrong.length}</span>
      </h2>
      <ul>
        {shown.map((own) => (
          <li key={own.key}>
            <Link to={own.to} className={`wrong-item wrong-${own.tone}`}>
              <Dot tone={own.tone} />
              <span className="wrong-what">{own.what}</span>
              <span className="wrong-detail">{own.detail}</span>
              <span className="wrong-since dim small">{own.since !== undefined && <Ago time={own.since} />}</span>
              <Icon name="right" />
            </Link>
          </li>
        ))}
        {shown.length < wrong.length && (
          <li>
            <button type="button" className="wrong-more" onClick={() => setAll(true)}>
              {wrong.length - shown.length} more
            </button>
          </li>
        )}
      </ul>
    </section>
  );
}
