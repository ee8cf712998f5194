// Where we are: the path and the query of the address, which hold everything that a page shows
// (search, range, selection), so that every view can be sent to a colleague. The browser's own
// History, and no library: there are a dozen pages with one parameter at most.
import { useCallback, useMemo, useSyncExternalStore, type AnchorHTMLAttributes, type MouseEvent } from 'react';

const CHANGED = 'atoll:moved';

function subscribe(listener: () => void): () => void {
  addEventListener('popstate', listener);
  addEventListener(CHANGED, listener);
  return () => {
    removeEventListener('popstate', listener);
    removeEventListener(CHANGED, listener);
  };
}

const here = () => location.pathname + location.search;

export function go(to: string, replace = false): void {
  if (to === here()) return;
  if (replace) history.replaceState(null, '', to);
  else history.pushState(null, '', to);
  dispatchEvent(new Event(CHANGED));
}

export interface Place {
  path: string;
  query: URLSearchParams;
}

export function usePlace(): Place {
  const at = useSyncExternalStore(subscribe, here);
  return useMemo(() => {
    const [path = '/', search = ''] = at.split(/\?(.*)/s);
    return { path, query: new URLSearchParams(search) };
  }, [at]);
}

export type Patch = Record<string, string | null | undefined>;

/** The same address with some of its query changed; null and '' take a name away. */
export function patched(query: URLSearchParams, patch: Patch): string {
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(patch)) {
    if (value === null || value === undefined || value === '') next.delete(name);
    else next.set(name, value);
  }
  const text = next.toString();
  return text === '' ? '' : `?${text}`;
}

/** The query, and how to change it. What is typed replaces; what is chosen can be gone back from. */
export function useQuery(): [URLSearchParams, (patch: Patch, replace?: boolean) => void] {
  const { query } = usePlace();
  const set = useCallback((patch: Patch, replace = false) => {
    go(location.pathname + patched(new URLSearchParams(location.search), patch), replace);
  }, []);
  return [query, set];
}

type LinkProps = AnchorHTMLAttributes<HTMLAnchorElement> & { to: string };

export function Link({ to, onClick, ...rest }: LinkProps) {
  const follow = (event: MouseEvent<HTMLAnchorElement>) => {
    onClick?.(event);
    const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (event.defaultPrevented || !isPlain) return;
    event.preventDefault();
    go(to);
  };
  return <a href={to} onClick={follow} {...rest} />;
}
