// The first page on a bad night: what is wrong, worst first, each a click from where it is seen;
// then all services with how they do. When nothing is wrong it says so in one calm line.
import { useMemo, useState } from 'react';
import { at } from '../../api/paths';
import { useApi } from '../../api/use';
import { useLive } from '../../app/live';
import { Link, useQuery } from '../../app/router';
import { isAsking, whatIsNotKnown, whatIsWrong, type Wrong } from '../../lib/wrong';
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
  const node = useApi(at('/v1/node'), 30_000);
  const resilience = useApi(at('/v1/resilience'), SLOW);
  const readers = useApi(at('/v1/readers'), SLOW);
  const letters = useApi(at('/v1/dead', { limit: 1000 }), SLOW);
  const outboxes = useApi(at('/v1/outboxes'), SLOW);
  const errors = useApi(at('/v1/errors'), SLOW);
  const [query, set] = useQuery();
  const filter = query.get('filter') ?? '';

  const services = live.services;
  const wrong = useMemo(
    () =>
      whatIsWrong({
        services: services ?? [],
        alerts: live.alerts ?? [],
        resilience: resilience.data,
        readers: readers.data ?? [],
        letters: letters.data?.letters ?? [],
        outboxes: outboxes.data ?? [],
        node: node.data,
      }),
    [services, live.alerts, resilience.data, readers.data, letters.data, outboxes.data, node.data],
  );
  const asked = { services: { data: services, error: live.error }, 'the node': node, 'breakers and instances that are left out': resilience, 'readers of topics': readers, 'dead letters': letters, outboxes };
  if (services === undefined) return live.error ? <Failure error={live.error} /> : <Loading rows={10} />;
  const shown = services.filter((own) => `${own.name} ${own.owner ?? ''} ${own.state}`.toLowerCase().includes(filter.toLowerCase()));
  return (
    <>
      <h1 className="unseen">Overview</h1>
      <WrongNow wrong={[...whatIsNotKnown(asked), ...wrong]} services={services.length} isAsking={isAsking(asked)} />
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
            onChange={(event) => set({ filter: event.target.value || null }, true)}
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

function WrongNow({ wrong, services, isAsking }: { wrong: Wrong[]; services: number; isAsking: boolean }) {
  const [all, setAll] = useState(false);
  if (wrong.length === 0) {
    return isAsking ? (
      <p className="all-well dim">Looking for what fails …</p>
    ) : (
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
