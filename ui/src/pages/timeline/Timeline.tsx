// Everything the platform did, newest first; by kind and service; what happens now comes on top.
import { useEffect, useMemo, useState } from 'react';
import { aborted, ApiError, get } from '../../api/client';
import { at } from '../../api/paths';
import type { EventKind, TimelineEvent } from '../../api/types';
import { useApi } from '../../api/use';
import { useLive } from '../../app/live';
import { Link, useQuery } from '../../app/router';
import { iso, rangeOf, type Range } from '../../lib/range';
import { inert, oneLine } from '../../lib/text';
import { Tag, type Tone } from '../../ui/Badges';
import { Empty, Failure, Loading } from '../../ui/Notes';
import { RangePicker } from '../../ui/RangePicker';
import { Rows } from '../../ui/Rows';
import { Moment } from '../../ui/Time';

const KINDS: EventKind[] = ['deploy', 'start', 'ready', 'exit', 'ejection', 'breaker', 'limit', 'config', 'scale', 'oom', 'throttle', 'alert', 'other'];
const PAGE = 500;
const EVERY = 5000;

export default function Timeline() {
  const [query, set] = useQuery();
  const kind = KINDS.find((own) => own === query.get('kind'));
  const service = query.get('service') ?? '';
  const { services } = useLive();
  const found = useTimeline(kind, service, query);
  const isLive = found.events !== undefined && found.range?.preset != null;
  const first = found.events?.[0]?.time;
  const newest = useApi(isLive ? at('/v1/timeline', { kind, service, since: first, limit: PAGE }) : null, EVERY).data?.events;
  const shown = useMemo(() => {
    const fresh = (newest ?? []).filter((own) => first === undefined || own.time > first);
    return [...fresh, ...(found.events ?? [])];
  }, [newest, found, first]);
  return (
    <>
      <div className="page-head">
        <h1>Timeline</h1>
        <div className="bar">
          <select aria-label="Kind" value={kind ?? ''} onChange={(event) => set({ kind: event.target.value })}>
            <option value="">All kinds</option>
            {KINDS.map((own) => (
              <option key={own}>{own}</option>
            ))}
          </select>
          <select aria-label="Service" value={service} onChange={(event) => set({ service: event.target.value })}>
            <option value="">All services</option>
            {(services ?? []).map((own) => (
              <option key={own.name}>{own.name}</option>
            ))}
          </select>
          {found.range && <RangePicker range={found.range} />}
        </div>
      </div>
      {found.error ? (
        <Failure error={found.error} />
      ) : found.events === undefined ? (
        <Loading rows={12} />
      ) : shown.length === 0 ? (
        <Empty title="Nothing happened in this time">Look at a longer time, or at all kinds and services.</Empty>
      ) : (
        <Rows label="Events, newest first" items={shown} keyOf={(own, at) => `${own.time} ${own.service} ${at}`} estimate={38} onEnd={found.more}>
          {(own) => <Event own={own} />}
        </Rows>
      )}
    </>
  );
}

function toneOf(own: TimelineEvent): { tone?: Tone } {
  if (own.level === 'error' || own.level === 'fatal') return { tone: 'bad' };
  return own.level === 'warn' ? { tone: 'warn' } : {};
}

function Event({ own }: { own: TimelineEvent }) {
  return (
    <div className="event-row">
      <span className="dim num small">
        <Moment time={own.time} exact={false} />
      </span>
      <span>
        <Tag {...toneOf(own)}>{own.kind}</Tag>
      </span>
      <Link to={own.service === 'edge' ? '/gateway' : `/services/${own.service}`} className="clip">
        {inert(own.service)}
      </Link>
      <span className="event-text">
        {oneLine(own.message, 400)} {own.instance !== null && <span className="dim small">{own.instance}</span>}
      </span>
      <span>{own.trace !== null && <Link to={`/traces/${own.trace}`}>Trace</Link>}</span>
    </div>
  );
}

interface State {
  events: TimelineEvent[] | undefined;
  next: string | null;
  range: Range | undefined;
  error: ApiError | undefined;
  asked: string;
}

/** The first page for a question; `more` brings the next ones. */
function useTimeline(kind: EventKind | undefined, service: string, query: URLSearchParams): State & { more: () => void } {
  const [state, setState] = useState<State>({ events: undefined, next: null, range: undefined, error: undefined, asked: '' });
  const [cursor, setCursor] = useState<{ of: string; at: string } | null>(null);
  const span = [query.get('range'), query.get('since'), query.get('until')].map((own) => own ?? '').join('|');
  const question = `${kind ?? ''}|${service}|${span}`;
  const before = cursor?.of === question ? cursor.at : undefined;
  useEffect(() => {
    const control = new AbortController();
    const [preset = '', since = '', until = ''] = span.split('|');
    const range = rangeOf(new URLSearchParams({ range: preset, since, until }), Date.now());
    const path = at('/v1/timeline', { kind, service, since: iso(range.since), until: range.preset === null ? iso(range.until) : undefined, limit: PAGE, before });
    get(path, control.signal).then(
      (found) =>
        setState((old) => {
          const kept = before !== undefined && old.asked === question ? (old.events ?? []) : [];
          return { events: [...kept, ...found.events], next: found.next, range, error: undefined, asked: question };
        }),
      (error: unknown) => {
        if (!aborted(error) && error instanceof ApiError) setState((old) => ({ ...old, range, error, asked: question }));
      },
    );
    return () => control.abort();
  }, [kind, service, span, question, before]);
  const more = () => {
    if (state.next !== null && state.asked === question) setCursor({ of: question, at: state.next });
  };
  return { ...state, more };
}
