// Traces as rows: what was asked, how long it took against the slowest shown, who took part.
import type { TraceSummary } from '../../api/types';
import { Link } from '../../app/router';
import { duration } from '../../lib/format';
import { oneLine } from '../../lib/text';
import { hueOf } from '../../lib/hue';
import { Tag } from '../../ui/Badges';
import { Rows } from '../../ui/Rows';
import { Moment } from '../../ui/Time';

interface Props {
  traces: TraceSummary[];
  picked: string[];
  onPick: (trace: string) => void;
}

export function TraceList({ traces, picked, onPick }: Props) {
  const slowest = Math.max(1, ...traces.map((own) => own.duration_us));
  return (
    <Rows label="Traces" className="tall" items={traces} keyOf={(own) => own.trace} estimate={36}>
      {(own) => (
        <div className="trace-row">
          <input type="checkbox" aria-label={`Compare ${own.root_name} of ${own.start}`} checked={picked.includes(own.trace)} onChange={() => onPick(own.trace)} />
          <Link to={`/traces/${own.trace}`} className="trace-link">
            <span className="dim num small">
              <Moment time={own.start} />
            </span>
            <span className="clip">
              <b>{own.root_service}</b> {oneLine(own.root_name, 160)}
            </span>
            <span className="trace-services">
              {own.services.slice(0, 6).map((service) => (
                <span key={service} className="hue" style={{ background: `var(${hueOf(service)})` }} title={service} />
              ))}
              <span className="dim small num">{own.spans}</span>
            </span>
            <span className="trace-errors">{own.errors > 0 && <Tag tone="bad">{`${own.errors} failed`}</Tag>}</span>
            <span className="trace-time">
              <span className={own.errors > 0 ? 'meter meter-bad' : 'meter'} style={{ width: `${Math.max(1, (own.duration_us / slowest) * 100)}%` }} />
              <span className="num">{duration(own.duration_us)}</span>
            </span>
          </Link>
        </div>
      )}
    </Rows>
  );
}
