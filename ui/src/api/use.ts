// How a page reads the API: `useApi(at(path, given))` gives data, error and a reload. A new address aborts the
// old request; what was shown stays until the answer is there, so that pages do not flicker. The
// last answers are kept, so that going back is instant. `every` polls while the tab is seen.
import { useCallback, useEffect, useRef, useState } from 'react';
import { aborted, ApiError, get } from './client';
import type { Url } from './paths';

const KEPT = 60;
const kept = new Map<string, unknown>();

export interface Asked<T> {
  data: T | undefined;
  error: ApiError | undefined;
  loading: boolean;
  reload: () => void;
}

interface State {
  path: string | null;
  data: unknown;
  error: ApiError | undefined;
  loading: boolean;
}

export function useApi<T>(path: Url<'application/json', T> | null, every?: number): Asked<T> {
  const [state, setState] = useState<State>(() => fresh(path));
  const [again, setAgain] = useState(0);
  const running = useRef<AbortController | null>(null);

  useEffect(() => {
    if (path === null) return undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const load = () => {
      const control = new AbortController();
      running.current = control;
      setState((old) => ({ ...old, loading: true }));
      get(path, control.signal).then(
        (data) => {
          keep(path, data);
          setState({ path, data, error: undefined, loading: false });
          next();
        },
        (error: unknown) => {
          if (aborted(error)) return;
          const shown = error instanceof ApiError ? error : new ApiError({ title: 'Error', status: 0, detail: String(error) });
          setState((old) => ({ path, data: old.path === path ? old.data : undefined, error: shown, loading: false }));
          // What this node has not, it will not have in a moment.
          if (shown.status !== 404) next();
        },
      );
    };
    const next = () => {
      if (every !== undefined) timer = setTimeout(tick, every);
    };
    const tick = () => {
      if (document.hidden) next();
      else load();
    };
    load();
    return () => {
      running.current?.abort();
      clearTimeout(timer);
    };
  }, [path, every, again]);

  const reload = useCallback(() => setAgain((count) => count + 1), []);
  // While the path is new, what is kept of it is better than what was asked before.
  const known = path !== null && state.path !== path ? kept.get(path) : undefined;
  const data = path === null ? undefined : (known ?? state.data);
  return { data: data as T | undefined, error: path === null ? undefined : state.error, loading: state.loading || state.path !== path, reload };
}

/** Whether this node has no such thing: a part of a page that lives from it is left out. */
export function isMissing(asked: Asked<unknown>): boolean {
  return asked.error?.status === 404 && asked.data === undefined;
}

/** Forgets all answers: after a change, and after a logout. */
export function forget(): void {
  kept.clear();
}

function fresh(path: string | null): State {
  return { path: null, data: path === null ? undefined : kept.get(path), error: undefined, loading: path !== null };
}

function keep(path: string, data: unknown): void {
  kept.delete(path);
  kept.set(path, data);
  const oldest = kept.keys().next();
  if (kept.size > KEPT && !oldest.done) kept.delete(oldest.value);
}
