// How a service is now: why it is not well, numbers with their last minutes, curves of the last
// hour with deployments marked, instances, errors, last lines.
import { at } from '../../api/paths';
import type { EventKind, Why } from '../../api/types';
import type { ServiceView } from '../../api/types';
import { isMissing, useApi } from '../../api/use';
import { useLive } from '../../app/live';
import { Link } from '../../app/router';
import { bytes, duration, number, percent, rate } from '../../lib/format';
import { oneLine } from '../../lib/text';
import { Empty, Given } from '../../ui/Notes';
import { Spark } from '../../ui/Spark';
import { Ago } from '../../ui/Time';
import { LineCells } from '../logs/Line';
import { TopErrors } from '../overview/TopErrors';
import { Curves } from './Curves';
import { Instances } from './Instances';

const LINES = 12;
const CHANGES = 10;
/** What people did stands out among what followed from it. */
const MADE_BY_PEOPLE = new Set<EventKind>(['deploy', 'config', 'scale']);

export function Now({ service, why }: { service: ServiceView; why: Why | undefined }) {
  const { past } = useLive();
  const errors = useApi(at('/v1/errors', { service: service.name }), 10_000);
  const lines = useApi(at('/v1/logs/search', { q: `service:${service.name}`, limit: LINES }), 10_000);
  const own = past[service.name];
  const share = service.requests_per_second > 0 ? service.errors_per_second / service.requests_per_second : 0;
  const memory = service.instances.reduce((sum, instance) => sum + instance.memory, 0);
  const isIll = service.state !== 'ready' || share >= 0.01;
  return (
    <>
      {isIll && (why !== undefined || service.reason !== null) && (
        <section className="why" aria-labelledby="why">
          <h2 id="why">Why</h2>
          <p>{oneLine(why?.summary ?? service.reason ?? '', 1000)}</p>
          {why !== undefined && why.changes.length > 0 && (
            <ol>
              {why.changes
                .toSorted((a, b) => a.time.localeCompare(b.time))
                .slice(0, CHANGES)
                .map((event, at) => (
                <li key={at} className={MADE_BY_PEOPLE.has(event.kind) ? 'by-people' : undefined}>
                  <span className="dim num">
                    <Ago time={event.time} suffix />
                  </span>{' '}
                  {oneLine(event.message, 200)}
                </li>
              ))}
            </ol>
          )}
        </section>
      )}
      <ul className="tiles">
        <Tile name="Requests" value={rate(service.requests_per_second)} values={own?.rate ?? []} />
        <Tile name="Errors" value={percent(share)} values={own?.errors ?? []} isBad={share >= 0.01} />
        <Tile name="p99" value={duration(service.p99_ms * 1000)} values={own?.p99 ?? []} />
        <Tile name="Processor" value={`${number(own?.cpu.at(-1) ?? 0)} cores`} values={own?.cpu ?? []} />
        <Tile name="Memory" value={bytes(memory)} values={own?.memory ?? []} />
      </ul>
      <Instances service={service} />
      <Curves service={service.name} />
      <div className="two">
        <TopErrors errors={errors} of={service.name} />
        {!isMissing(lines) && (
        <section className="panel" aria-labelledby="lines">
          <header>
            <h2 id="lines">Last lines</h2>
            <Link className="small" to={`/logs?q=service:${service.name}&live=1`}>
              Follow
            </Link>
          </header>
          <Given of={lines} rows={4}>
            {({ records }) =>
              records.length === 0 ? (
                <Empty title="It has said nothing in the last hour" />
              ) : (
                <ol className="short-lines">
                  {records.map((line) => (
                    <li key={line.number} className={`log log-${line.level ?? 'none'}`}>
                      <LineCells line={line} words={[]} />
                    </li>
                  ))}
                </ol>
              )
            }
          </Given>
        </section>
        )}
      </div>
    </>
  );
}

function Tile({ name, value, values, isBad = false }: { name: string; value: string; values: number[]; isBad?: boolean }) {
  return (
    <li className="tile panel">
      <span className="dim small">{name}</span>
      <span className={isBad ? 'tile-value num bad' : 'tile-value num'}>{value}</span>
      <Spark values={values} tone={isBad ? 'bad' : 'plain'} width={150} height={26} />
    </li>
  );
}
