// Alerts of the past: each time one fired or was resolved, the newest first, page by page.
import { useState } from 'react';
import { get, told } from '../../api/client';
import { at } from '../../api/paths';
import type { AlertChange } from '../../api/types';
import { useApi } from '../../api/use';
import { oneLine } from '../../lib/text';
import { State, Tag } from '../../ui/Badges';
import { Empty, Given } from '../../ui/Notes';
import { Moment } from '../../ui/Time';
import { toast } from '../../ui/Toast';

const PAGE = 50;

interface Older {
  /** The `next` that these pages followed. */
  of: string | null;
  alerts: AlertChange[];
  next: string | null;
}

export function Past() {
  const newest = useApi(at('/v1/alerts/history', { limit: PAGE }), 30_000);
  const [older, setOlder] = useState<Older | null>(null);
  return (
    <section className="panel" aria-labelledby="past">
      <header>
        <h2 id="past">Past alerts</h2>
      </header>
      <Given of={newest} rows={3}>
        {(first) => {
          if (first.alerts.length === 0) return <Empty title="None">No alert has fired so far.</Empty>;
          // What is new has moved the pages; then they are asked for again.
          const more = older !== null && older.of === first.next ? older : null;
          const next = more === null ? first.next : more.next;
          const load = () => {
            get(at('/v1/alerts/history', { limit: PAGE, before: next })).then(
              (found) => setOlder({ of: first.next, alerts: [...(more?.alerts ?? []), ...found.alerts], next: found.next }),
              (error: unknown) => toast(told(error)),
            );
          };
          return (
            <>
              <ul className="alerts">
                {[...first.alerts, ...(more?.alerts ?? [])].map((own) => (
                  <Row key={`${own.id}-${own.since}`} change={own} />
                ))}
              </ul>
              {next !== null && (
                <p className="pad">
                  <button type="button" className="btn" onClick={load}>
                    Older
                  </button>
                </p>
              )}
            </>
          );
        }}
      </Given>
    </section>
  );
}

function Row({ change }: { change: AlertChange }) {
  return (
    <li className="alert">
      <span className="dim nowrap">
        <Moment time={change.since} exact={false} />
      </span>
      <State state={change.state} />
      <span className="alert-text">
        <b>
          {change.service}: {change.objective}
        </b>{' '}
        <Tag>{change.severity}</Tag> {change.silenced && <Tag>silenced</Tag>} <span className="dim">{oneLine(change.message, 300)}</span>
      </span>
    </li>
  );
}
