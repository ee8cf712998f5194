// Pages of a list whose newest come first. Where one is stands in the address; the way back is the browser's.
import type { Asked } from '../api/use';
import { useQuery } from '../app/router';

/** What the page comes before; none on the first. */
export function useBefore(): string | undefined {
  const [query] = useQuery();
  return query.get('before') ?? undefined;
}

/** A page of what was asked for with one more than a page has: that one tells whether there are older ones. */
export function pageOf<T extends { id: string | number }>(all: Asked<T[]>, size: number): [page: Asked<T[]>, next: string | number | null] {
  const data = all.data?.slice(0, size);
  const next = (all.data?.length ?? 0) > size ? (data?.at(-1)?.id ?? null) : null;
  return [{ ...all, data }, next];
}

export function Pager({ next }: { /** What the next page comes before, if there is one. */ next: string | number | null }) {
  const [query, set] = useQuery();
  const isFirst = !query.has('before');
  if (isFirst && next === null) return null;
  return (
    <div className="bar pad">
      {!isFirst && (
        <button type="button" className="btn" onClick={() => set({ before: null })}>
          Newest
        </button>
      )}
      {next !== null && (
        <button type="button" className="btn" onClick={() => set({ before: String(next) })}>
          Older
        </button>
      )}
    </div>
  );
}
