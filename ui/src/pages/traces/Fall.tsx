// The waterfall: a row for each span and each thing said, names at the left, time at the right.
import type { CSSProperties } from 'react';
import type { TraceView } from '../../api/types';
import { duration } from '../../lib/format';
import { inShort } from '../../lib/line';
import { oneLine } from '../../lib/text';
import { hueOf } from '../../lib/hue';
import { type NoteRow, type Row, type SpanRow, type Waterfall, titleOf } from '../../lib/trace';
import { LevelMark, Tag } from '../../ui/Badges';
import { Icon } from '../../ui/Icon';
import { Rows } from '../../ui/Rows';
import { SpanDetail } from './SpanDetail';

interface Props {
  trace: TraceView;
  fall: Waterfall;
  open: string | null;
  onOpen: (span: string | null) => void;
  onToggle: (span: string) => void;
}

const TICKS = [0, 0.25, 0.5, 0.75];

export function Fall({ trace, fall, open, onOpen, onToggle }: Props) {
  const shown = open === null ? undefined : fall.rows.findIndex((row) => row.kind === 'span' && row.span.span === open);
  return (
    <>
      <div className="fall-head small dim" aria-hidden="true">
        <span>Service and operation</span>
        <span className="fall-axis">
          {TICKS.map((tick) => (
            <span key={tick} style={{ left: `${tick * 100}%` }}>
              {duration(fall.length * tick)}
            </span>
          ))}
        </span>
      </div>
      <Rows label="Spans" className="fall" items={fall.rows} keyOf={keyOf} estimate={30} shown={shown}>
        {(row) =>
          row.kind === 'span' ? (
            <>
              <SpanLine row={row} length={fall.length} isOpen={open === row.span.span} onOpen={onOpen} onToggle={onToggle} />
              {open === row.span.span && <SpanDetail span={row.span} logs={trace.logs} />}
            </>
          ) : (
            <NoteLine row={row} length={fall.length} />
          )
        }
      </Rows>
    </>
  );
}

function keyOf(row: Row): string {
  return row.kind === 'span' ? row.span.span : row.key;
}

function share(us: number, length: number): string {
  return `${Math.max(0, Math.min(100, (us / length) * 100)).toFixed(3)}%`;
}

interface LineProps {
  row: SpanRow;
  length: number;
  isOpen: boolean;
  onOpen: Props['onOpen'];
  onToggle: Props['onToggle'];
}

function SpanLine({ row, length, isOpen, onOpen, onToggle }: LineProps) {
  const { span } = row;
  const failed = span.status === 'error';
  const classes = ['bar-span', row.critical ? 'bar-critical' : '', span.inferred ? 'bar-inferred' : '', failed ? 'bar-failed' : ''].join(' ');
  const style: CSSProperties = { left: share(row.at, length), width: share(span.duration_us, length), '--hue': `var(${hueOf(span.service)})` } as CSSProperties;
  return (
    <div className={isOpen ? 'span-row span-open' : 'span-row'}>
      <div className="span-name" style={{ paddingLeft: `${0.4 + Math.min(row.depth, 16) * 0.9}rem` }}>
        {row.children > 0 ? (
          <button type="button" className="twist" aria-expanded={!row.collapsed} aria-label={`Children of ${span.name}`} onClick={() => onToggle(span.span)}>
            <Icon name={row.collapsed ? 'right' : 'down'} />
          </button>
        ) : (
          <span className="twist" />
        )}
        <button type="button" className="span-open-button clip" aria-expanded={isOpen} onClick={() => onOpen(isOpen ? null : span.span)}>
          <span className="hue" style={{ background: `var(${hueOf(span.service)})` }} /> <b>{span.service}</b>{' '}
          <span className={failed ? 'bad' : 'dim'}>{oneLine(titleOf(span), 120)}</span>
          {failed && <Tag tone="bad">failed</Tag>}
          {span.inferred && <Tag>inferred</Tag>}
          {row.critical && <span className="unseen"> on the critical path</span>}
        </button>
      </div>
      <div className="span-time">
        <span className={classes} style={style} />
        {row.notes.map((at, index) => (
          <span key={index} className="tick" style={{ left: share(at, length) }} />
        ))}
        <Took at={row.at} took={span.duration_us} length={length} />
      </div>
    </div>
  );
}

/** After the bar, before it, or where neither has room, in it. */
function Took({ at, took, length }: { at: number; took: number; length: number }) {
  if ((at + took) / length < 0.88) {
    return (
      <span className="span-took num" style={{ left: `calc(${share(at + took, length)} + 0.4rem)` }}>
        {duration(took)}
      </span>
    );
  }
  if (at / length > 0.12) {
    return (
      <span className="span-took num" style={{ right: `calc(${share(length - at, length)} + 0.4rem)` }}>
        {duration(took)}
      </span>
    );
  }
  return <span className="span-took took-inside num">{duration(took)}</span>;
}

function NoteLine({ row, length }: { row: NoteRow; length: number }) {
  const more = inShort(row.attributes);
  return (
    <div className={`span-row note-row log-${row.level ?? 'none'}`}>
      <div className="span-name clip" style={{ paddingLeft: `${1.9 + Math.min(row.depth, 16) * 0.9}rem` }} title={oneLine(`${row.text} ${more}`)}>
        {row.kind === 'log' ? <LevelMark level={row.level} /> : <span className="level">event</span>}{' '}
        <span className="mono">
          {oneLine(row.text, 200)}
          {more !== '' && <span className="log-more">{oneLine(more, 160)}</span>}
        </span>
      </div>
      <div className="span-time">
        <span className="tick tick-own" style={{ left: share(row.at, length) }} />
      </div>
    </div>
  );
}
