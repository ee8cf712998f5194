// Dark or light: the system's choice unless the reader makes another, which this browser keeps.
import { useSyncExternalStore } from 'react';

export type Theme = 'system' | 'light' | 'dark';
const KEY = 'atoll:theme';
const CHANGED = 'atoll:theme';

export function theme(): Theme {
  const stored = localStorage.getItem(KEY);
  return stored === 'light' || stored === 'dark' ? stored : 'system';
}

export function setTheme(next: Theme): void {
  if (next === 'system') localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, next);
  applyTheme();
  dispatchEvent(new Event(CHANGED));
}

export function applyTheme(): void {
  const chosen = theme();
  if (chosen === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}

const dark = matchMedia('(prefers-color-scheme: dark)');

function subscribe(listener: () => void): () => void {
  addEventListener(CHANGED, listener);
  dark.addEventListener('change', listener);
  return () => {
    removeEventListener(CHANGED, listener);
    dark.removeEventListener('change', listener);
  };
}

export function useTheme(): Theme {
  return useSyncExternalStore(subscribe, theme);
}

/** Whether it is dark now; charts are drawn again when it changes. */
export function useDark(): boolean {
  return useSyncExternalStore(subscribe, () => (theme() === 'system' ? dark.matches : theme() === 'dark'));
}
