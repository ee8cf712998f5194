// The tail of a topic: the last records of each partition, then what comes, newest first.
import { useEffect, useState } from 'react';
import { aborted, ApiError, open } from '../../api/client';
import { at } from '../../api/paths';
import { lines } from '../../api/stream';
import type { RecordView } from '../../api/types';

const KEPT = 5000;
const FLUSH_MS = 150;

interface Tail {
  records: RecordView[];
  error: ApiError | undefined;
  loading: boolean;
}

export function useRecords(topic: string, tail: number, follow: boolean): Tail {
  const key = `${topic} ${tail} ${follow}`;
  const [state, setState] = useState<Tail & { key: string }>({ records: [], error: undefined, loading: true, key });
  useEffect(() => {
    const control = new AbortController();
    let fresh: RecordView[] = [];
    let isFirst = true;
    const flush = (isOver: boolean) => {
      if (fresh.length === 0 && !isOver && !isFirst) return;
      const taken = fresh.sort((a, b) => (b.time ?? '').localeCompare(a.time ?? '') || b.offset - a.offset);
      fresh = [];
      const begins = isFirst;
      isFirst = false;
      setState((old) => ({ key, records: begins ? taken : [...taken, ...old.records].slice(0, KEPT), error: undefined, loading: false }));
    };
    const timer = setInterval(() => flush(false), FLUSH_MS);
    const url = at('/v1/topics/{topic}/records', { topic, tail, follow: follow || undefined });
    open(url, control.signal)
      .then((answer) => lines(answer, (record) => fresh.push(record)))
      .then(() => {
        flush(true);
        clearInterval(timer);
      })
      .catch((error: unknown) => {
        clearInterval(timer);
        if (!aborted(error) && error instanceof ApiError) setState((old) => ({ ...old, key, error, loading: false }));
      });
    return () => {
      clearInterval(timer);
      control.abort();
    };
  }, [topic, tail, follow, key]);
  return { ...state, loading: state.loading || state.key !== key };
}
