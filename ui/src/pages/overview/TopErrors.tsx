// The errors of the last hour, grouped by what they say, the most frequent first.
import type { ErrorGroup } from '../../api/types';
import { Link } from '../../app/router';
import { isMissing, type Asked } from '../../api/use';
import { count, millis } from '../../lib/format';
import { spanPatch } from '../../lib/range';
import { oneLine } from '../../lib/text';
import { Empty, Given } from '../../ui/Notes';
import { Ago } from '../../ui/Time';

const SHOWN = 6;

/** Whatever has changed was said before the first of them. */
function before(service: string, first: string): string {
  const query = new URLSearchParams({ q: `service:${service}` });
  for (const [key, moment] of Object.entries(spanPatch(millis(first) - 60_000, millis(first) + 1))) if (moment !== null) query.set(key, moment);
  return `/logs?${query.toString()}`;
}

export function TopErrors({ errors, of }: { errors: Asked<ErrorGroup[]>; of?: string }) {
  if (isMissing(errors)) return null;
  return (
    <section className="panel" aria-labelledby="errors">
      <header>
        <h2 id="errors">Errors in the last hour</h2>
        <Link to={`/logs?q=${encodeURIComponent(of === undefined ? 'level>=error' : `service:${of} level>=error`)}`} className="small">
          All in the logs
        </Link>
      </header>
      <Given of={errors} rows={3}>
        {(groups) =>
          groups.length === 0 ? (
            <Empty title="None" />
          ) : (
            <ul className="feed">
              {groups.slice(0, SHOWN).map((own) => (
                <li key={own.fingerprint}>
                  <span className="feed-count num bad">{count(own.count)}×</span>
                  <span className="feed-text">
                    <b>{own.service} </b>
                    <span className="mono">{oneLine(own.message, 200)}</span>
                  </span>
                  <span className="feed-end dim small">
                    <Ago time={own.last} />
                    {own.trace !== null && <Link to={`/traces/${own.trace}`}>Trace</Link>}
                    <Link to={before(own.service, own.first)} title={`What ${own.service} said in the minute before the first of them`}>
                      Before
                    </Link>
                  </span>
                </li>
              ))}
            </ul>
          )
        }
      </Given>
    </section>
  );
}
