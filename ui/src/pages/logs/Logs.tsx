// The logs: one field, what it finds over time, facets, lines. Everything is in the address. With
// the tail on, new lines come to the top.
import { useCallback, useMemo, useState } from 'react';
import type { LogView } from '../../api/types';
import { useQuery } from '../../app/router';
import { count, duration } from '../../lib/format';
import { excluded, toggled } from '../../lib/query';
import { spanPatch } from '../../lib/range';
import { wordsOf } from '../../lib/text';
import { Search } from '../../ui/Field';
import { Icon } from '../../ui/Icon';
import { Empty, Failure, Loading } from '../../ui/Notes';
import { RangePicker } from '../../ui/RangePicker';
import { Rows } from '../../ui/Rows';
import { Context } from './Context';
import { Facets } from './Facets';
import { Histogram } from './Histogram';
import { Line } from './Line';
import { useLogSearch } from './useLogSearch';
import { useTail } from './useTail';

export default function Logs() {
  const [query, set] = useQuery();
  const q = query.get('q') ?? '';
  const isLive = query.get('live') === '1';
  const selected = query.get('line');
  const [search, more, reload] = useLogSearch(q, query);
  const [isAtTop, setAtTop] = useState(true);
  const tail = useTail(isLive, q, !isAtTop || selected !== null);
  const words = useMemo(() => wordsOf(q), [q]);

  const lines = useMemo(() => {
    const found = search.records ?? [];
    if (tail.lines.length === 0) return found;
    // The tail and the search may both have the newest lines.
    const known = new Set(tail.lines.map((line) => line.number));
    return [...tail.lines, ...found.filter((line) => !known.has(line.number))];
  }, [search.records, tail.lines]);
  const setQ = useCallback((next: string) => set({ q: next, line: null }, true), [set]);
  const select = useCallback((line: LogView) => set({ line: selected === String(line.number) ? null : String(line.number) }, true), [set, selected]);
  const filter = useCallback((key: string, value: string) => set({ q: toggled(q, key, value), line: null }), [q, set]);
  const exclude = useCallback((key: string, value: string) => set({ q: excluded(q, key, value), line: null }), [q, set]);

  const isMistake = search.error?.status === 400 || search.error?.status === 422;
  return (
    <>
      <h1 className="unseen">Logs</h1>
      <Context />
      <div className="bar">
        <Search
          label="Search the logs"
          value={q}
          placeholder='Words, "a phrase", service:orders level>=warn /regex/'
          onChange={setQ}
          trouble={isMistake ? search.error?.message : undefined}
        />
        <RangePicker range={search.range} />
        <button type="button" className="btn" aria-pressed={isLive} onClick={() => set({ live: isLive ? null : '1', ...(isLive ? {} : { since: null, until: null }) })}>
          <Icon name={isLive ? 'pause' : 'play'} /> Live
        </button>
      </div>
      <Histogram search={search} onSpan={(since, until) => set({ ...spanPatch(since, until), live: null })} />
      <div className="with-side">
        <Facets facets={search.facets} q={q} onToggle={filter} />
        <div className="stack log-lines">
          <p className="small dim spread" role="status">
            <span>
              {search.loading ? 'Searching… ' : ''}
              {search.records && `${count(lines.length)}${search.next === null ? '' : '+'} ${lines.length === 1 ? 'line' : 'lines'}, ${count(search.scanned)} scanned in ${duration(search.tookUs)}`}
              {isLive && ` · ${{ open: 'following', connecting: 'connecting…', lost: 'connection lost, trying again', refused: 'refused by the node', off: '' }[tail.wire]}`}
            </span>
            {tail.waiting > 0 && (
              <button type="button" className="linkish" onClick={tail.release}>
                {count(tail.waiting)} new lines
              </button>
            )}
          </p>
          {search.error && !isMistake ? (
            <Failure error={search.error} retry={reload} />
          ) : isMistake && search.records === undefined ? (
            <Empty title="This search cannot be read">{search.error?.message}</Empty>
          ) : search.records === undefined ? (
            <Loading rows={12} />
          ) : lines.length === 0 ? (
            <Empty title="No line matches">
              Look at a longer time, or take a word away. <code>level&gt;=warn</code>, <code>service:orders</code> and <code>-word</code> narrow a search.
            </Empty>
          ) : (
            <Rows label="Log lines, newest first" items={lines} keyOf={(line) => line.number} estimate={28} onEnd={more} onScroll={setAtTop}>
              {(line) => <Line line={line} words={words} open={selected === String(line.number)} onOpen={select} onFilter={filter} onExclude={exclude} />}
            </Rows>
          )}
        </div>
      </div>
    </>
  );
}
