// One trace: who took the time, and the waterfall with what was said along the way.
import { useMemo, useState } from 'react';
import { at } from '../../api/paths';
import type { TraceView } from '../../api/types';
import { useApi } from '../../api/use';
import { Link, useQuery } from '../../app/router';
import { duration, percent, plural } from '../../lib/format';
import { oneLine } from '../../lib/text';
import { hueOf } from '../../lib/hue';
import { criticalShares, waterfall } from '../../lib/trace';
import { Copy } from '../../ui/Copy';
import { Empty, Given } from '../../ui/Notes';
import { Moment } from '../../ui/Time';
import { Fall } from './Fall';

export default function Trace({ id }: { id: string }) {
  const found = useApi(at('/v1/traces/{trace}', { trace: id }));
  return (
    <Given of={found} rows={14}>
      {(trace) => {
        if (trace.spans.length > 0) return <Shown trace={trace} />;
        return trace.logs.length === 0 ? <Gone id={id} /> : <Empty page title="This trace has no spans yet">Load the page again in a moment.</Empty>;
      }}
    </Given>
  );
}

/** Nothing is kept of it. */
function Gone({ id }: { id: string }) {
  return (
    <Empty page title="This trace is not kept">
      <p>It may be older than what the node keeps, or left out by sampling, or its id has a mistake. If it has just begun, load the page again in a moment.</p>
      <Link className="btn" to={`/logs?q=trace:${id}&range=7d`}>
        Search the logs for it
      </Link>
    </Empty>
  );
}

function Shown({ trace }: { trace: TraceView }) {
  const [query, set] = useQuery();
  const [collapsed, setCollapsed] = useState<Set<string>>(() => new Set());
  const withNotes = query.get('notes') !== '0';
  const fall = useMemo(() => waterfall(trace, collapsed, withNotes), [trace, collapsed, withNotes]);
  const shares = useMemo(() => criticalShares(trace), [trace]);
  const root = fall.rows.find((row) => row.kind === 'span')?.span;
  const failed = trace.spans.filter((span) => span.status === 'error').length;
  const why = useApi(failed > 0 ? at('/v1/why/{subject}', { subject: trace.trace }) : null).data;
  const hasInferred = trace.spans.some((span) => span.inferred);
  const total = shares.reduce((sum, share) => sum + share.us, 0);

  const toggle = (span: string) => {
    setCollapsed((old) => {
      const next = new Set(old);
      if (!next.delete(span)) next.add(span);
      return next;
    });
  };
  return (
    <>
      <div className="page-head">
        <h1>
          {root ? `${root.service} ` : ''}
          <span className="sub">{oneLine(root?.name ?? '', 140)}</span>
        </h1>
        <div className="bar">
          <button type="button" className="btn" aria-pressed={withNotes} onClick={() => set({ notes: withNotes ? '0' : null }, true)}>
            Logs and events
          </button>
          <Link className="btn" to={`/logs?q=trace:${trace.trace}&range=24h`}>
            In the logs
          </Link>
          <Copy text={trace.trace} label="Copy the trace id" />
        </div>
      </div>
      <dl className="facts">
        <Fact name="Took">{duration(fall.length)}</Fact>
        <Fact name="Began">{root ? <Moment time={root.start} /> : '–'}</Fact>
        <Fact name="Spans">{trace.spans.length}</Fact>
        <Fact name="Failed">{failed > 0 ? <span className="bad">{plural(failed, 'span')}</span> : 'none'}</Fact>
        <Fact name="Lines">{trace.logs.length}</Fact>
      </dl>
      {why !== undefined && (
        <p className="why" role="note">
          <b>Why:</b> {oneLine(why.summary, 1000)}
        </p>
      )}
      {total > 0 && (
        <div>
          <p className="small dim">Who took the time, on the critical path</p>
          <ul className="shares">
            {shares.map((share) => (
              <li key={share.service} style={{ flexGrow: share.us, flexBasis: 0, background: `var(${hueOf(share.service)})` }} title={`${share.service}: ${duration(share.us)}`} />
            ))}
          </ul>
          <p className="share-names small">
            {shares.slice(0, 6).map((share) => (
              <span key={share.service}>
                <span className="hue" style={{ background: `var(${hueOf(share.service)})` }} /> {share.service} <b>{duration(share.us)}</b>{' '}
                <span className="dim">{percent(share.us / total)}</span>
              </span>
            ))}
          </p>
        </div>
      )}
      <Fall trace={trace} fall={fall} open={query.get('span')} onOpen={(span) => set({ span }, true)} onToggle={toggle} />
      <p className="small dim legend">
        <span className="key-critical" /> critical path
        {hasInferred && (
          <>
            <span className="key-inferred" /> inferred: Atoll has seen the call, the service has told no span
          </>
        )}
        <span className="key-tick" /> line or event
      </p>
    </>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd className="num">{children}</dd>
    </div>
  );
}
