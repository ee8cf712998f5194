// Everything that is known of one span.
import type { LogView, SpanView } from '../../api/types';
import { Link } from '../../app/router';
import { duration } from '../../lib/format';
import { Attributes, Long } from '../../ui/Attributes';
import { Copy } from '../../ui/Copy';
import { Moment } from '../../ui/Time';

export function SpanDetail({ span, logs }: { span: SpanView; logs: LogView[] }) {
  const own = logs.filter((log) => log.span === span.span);
  return (
    <div className="detail">
      {span.status_message !== '' && (
        <p className="bad">
          <Long text={span.status_message} max={4000} />
        </p>
      )}
      {span.inferred && <p className="dim">This span is inferred: Atoll has seen the call from outside. The service has told nothing of it.</p>}
      <p className="small">
        {span.kind} · {duration(span.duration_us)} · from <Moment time={span.start} /> · {span.instance}
        {span.caller !== null && ` · called by ${span.caller}`}
      </p>
      <Attributes of={span.attributes} />
      {span.events.map((event, at) => (
        <div key={at}>
          <h2>
            {event.name} <Moment time={event.time} />
          </h2>
          <Attributes of={event.attributes} />
        </div>
      ))}
      {span.links.map((link, at) => (
        <div key={at}>
          <p className="small">
            Has to do with <Link to={`/traces/${link.trace}${link.span === null ? '' : `?span=${link.span}`}`}>another span</Link>
          </p>
          <Attributes of={link.attributes} />
        </div>
      ))}
      {own.map((log) => (
        <p key={log.number} className="mono small">
          <Moment time={log.time} /> {log.level} <Long text={log.message} max={2000} />
        </p>
      ))}
      <div className="bar">
        <Link className="btn btn-small" to={`/services/${span.service}`}>
          {span.service}
        </Link>
        <Link className="btn btn-small" to={`/logs?q=trace:${span.trace}+service:${span.service}&range=24h`}>
          Its lines
        </Link>
        <Link className="btn btn-small" to={`/traces?q=${encodeURIComponent(`service:${span.service}`)}`}>
          Others of {span.service}
        </Link>
        <Copy text={JSON.stringify(span, null, 2)} label="Copy the span" />
      </div>
    </div>
  );
}
