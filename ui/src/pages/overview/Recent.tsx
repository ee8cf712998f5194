// What the platform did lately: the first question after "what is wrong" is "what has changed".
import { at } from '../../api/paths';
import { isMissing, useApi } from '../../api/use';
import { Link } from '../../app/router';
import { oneLine } from '../../lib/text';
import { Tag } from '../../ui/Badges';
import { Empty, Given } from '../../ui/Notes';
import { Ago } from '../../ui/Time';

const SHOWN = 8;

export function Recent() {
  const found = useApi(at('/v1/timeline', { limit: SHOWN }), 5000);
  if (isMissing(found)) return null;
  return (
    <section className="panel" aria-labelledby="recent">
      <header>
        <h2 id="recent">What changed</h2>
        <Link to="/timeline" className="small">
          Whole timeline
        </Link>
      </header>
      <Given of={found} rows={3}>
        {({ events }) =>
          events.length === 0 ? (
            <Empty title="Nothing in the last hour" />
          ) : (
            <ul className="feed">
              {events.map((own, at) => (
                <li key={`${own.time}-${at}`}>
                  <span className="feed-count">
                    <Tag {...(own.level === 'error' ? { tone: 'bad' } : own.level === 'warn' ? { tone: 'warn' } : {})}>{own.kind}</Tag>
                  </span>
                  <span className="feed-text">
                    <b>{own.service}</b> {oneLine(own.message, 160)}
                  </span>
                  <span className="feed-end dim small">
                    <Ago time={own.time} />
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
