// The search behind the logs page. A new question aborts the old one; the first page of lines, the
// histogram and the facets are asked for the same span, fixed when the question was asked, so that
// a relative range does not pull the list from under the reader. Older lines come by cursor.
import { useCallback, useEffect, useRef, useState } from 'react';
import { aborted, ApiError, get } from '../../api/client';
import { at } from '../../api/paths';
import type { LogFacets, LogHistogram, LogView } from '../../api/types';
import { iso, rangeOf, type Range } from '../../lib/range';

const PAGE = 200;
const BUCKETS = 80;
const MINUTE = 60_000;

export interface LogSearch {
  range: Range;
  records: LogView[] | undefined;
  next: string | null;
  scanned: number;
  tookUs: number;
  histogram: LogHistogram | undefined;
  facets: LogFacets | undefined;
  error: ApiError | undefined;
  loading: boolean;
  /** The question that the answer is for. */
  of: string;
}

const nothing: LogSearch = {
  range: { preset: '1h', since: 0, until: MINUTE },
  records: undefined,
  next: null,
  scanned: 0,
  tookUs: 0,
  histogram: undefined,
  facets: undefined,
  error: undefined,
  loading: true,
  of: '',
};

export function useLogSearch(q: string, query: URLSearchParams): [LogSearch, () => void, () => void] {
  const [state, setState] = useState<LogSearch>(nothing);
  const [again, setAgain] = useState(0);
  const control = useRef<AbortController | null>(null);
  const isLoadingMore = useRef(false);
  const question = `${q}|${query.get('range') ?? ''}|${query.get('since') ?? ''}|${query.get('until') ?? ''}|${again}`;
  const span = `${query.get('range') ?? ''}|${query.get('since') ?? ''}|${query.get('until') ?? ''}`;

  useEffect(() => {
    const [preset, since, until] = span.split('|');
    const range = rangeOf(new URLSearchParams({ range: preset ?? '', since: since ?? '', until: until ?? '' }), Date.now());
    const own = new AbortController();
    control.current = own;
    isLoadingMore.current = false;
    const asked = { q, since: iso(range.since), until: iso(range.until) };
    const failed = (error: unknown) => {
      if (!aborted(error) && error instanceof ApiError) setState((old) => ({ ...old, range, error, of: question }));
    };
    get(at('/v1/logs/search', { ...asked, limit: PAGE }), own.signal).then(
      (found) => setState((old) => ({ ...old, range, records: found.records, next: found.next, scanned: found.scanned, tookUs: found.took_us, error: undefined, of: question })),
      failed,
    );
    get(at('/v1/logs/histogram', { ...asked, buckets: BUCKETS }), own.signal).then(
      (histogram) => setState((old) => ({ ...old, histogram })),
      failed,
    );
    get(at('/v1/logs/facets', asked), own.signal).then((facets) => setState((old) => ({ ...old, facets })), failed);
    return () => own.abort();
  }, [q, span, question]);

  const { next, range } = state;
  const more = useCallback(() => {
    if (next === null || isLoadingMore.current) return;
    isLoadingMore.current = true;
    const path = at('/v1/logs/search', { q, since: iso(range.since), until: iso(range.until), limit: PAGE, before: next });
    get(path, control.current?.signal)
      .then((found) => setState((old) => ({ ...old, records: [...(old.records ?? []), ...found.records], next: found.next })))
      .catch((error: unknown) => {
        if (!aborted(error) && error instanceof ApiError) setState((old) => ({ ...old, error }));
      })
      .finally(() => {
        isLoadingMore.current = false;
      });
  }, [q, next, range]);
  const reload = useCallback(() => setAgain((count) => count + 1), []);
  return [{ ...state, loading: state.of !== question }, more, reload];
}
