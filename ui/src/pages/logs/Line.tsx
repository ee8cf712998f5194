// One line of the log: a row; opened, its whole text, its attributes, and ways on from it.
import { memo } from 'react';
import type { LogView } from '../../api/types';
import { Link } from '../../app/router';
import { inShort, told } from '../../lib/line';
import { marked, oneLine } from '../../lib/text';
import { Attributes, Long } from '../../ui/Attributes';
import { LevelMark } from '../../ui/Badges';
import { Copy } from '../../ui/Copy';
import { Moment } from '../../ui/Time';
import { ContextButton } from './Context';

interface Props {
  line: LogView;
  words: string[];
  open: boolean;
  onOpen: (line: LogView) => void;
  onFilter: (key: string, value: string) => void;
  onExclude: (key: string, value: string) => void;
}

export const Line = memo(function Line({ line, words, open, onOpen, onFilter, onExclude }: Props) {
  return (
    <>
      <button type="button" className={`log log-${line.level ?? 'none'}`} aria-expanded={open} onClick={() => onOpen(line)}>
        <LineCells line={line} words={words} />
      </button>
      {open && (
        <div className="detail">
          <div className="detail-message">
            <Long text={line.message} />
          </div>
          <Attributes of={{ ...told(line.message)?.more, ...line.attributes }} onFilter={onFilter} />
          <div className="bar">
            {line.trace !== null && (
              <Link className="btn btn-small" to={`/traces/${line.trace}${line.span === null ? '' : `?span=${line.span}`}`}>
                Open its trace
              </Link>
            )}
            {line.trace !== null && (
              <button type="button" className="btn btn-small" onClick={() => onFilter('trace', line.trace ?? '')}>
                All lines of the trace
              </button>
            )}
            <ContextButton number={line.number} />
            <button type="button" className="btn btn-small" onClick={() => onExclude('service', line.service)}>
              Hide {line.service}
            </button>
            <Link className="btn btn-small" to={`/services/${line.service}`}>
              {line.service}
            </Link>
            <Copy text={JSON.stringify(line, null, 2)} label="Copy the record" />
            <span className="dim small">
              {line.instance}
              {line.revision > 0 && ` · r${line.revision}`} · {line.stream} · {line.time}
            </span>
          </div>
        </div>
      )}
    </>
  );
});

export function LineCells({ line, words }: { line: LogView; words: string[] }) {
  const own = told(line.message);
  return (
    <>
      <span className="log-time">
        <Moment time={line.time} />
      </span>
      <LevelMark level={line.level} />
      <span className="log-service clip">{line.service}</span>
      <span className="log-message clip">
        <Marked text={own?.text ?? line.message} words={words} />
        {own && (
          <span className="log-more">
            <Marked text={inShort(own.more)} words={words} />
          </span>
        )}
      </span>
    </>
  );
}

function Marked({ text, words }: { text: string; words: string[] }) {
  return marked(oneLine(text), words).map((piece, at) => (piece.hit ? <mark key={at}>{piece.text}</mark> : piece.text));
}
