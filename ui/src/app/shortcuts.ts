// Keys that work everywhere but in fields: Ctrl/Cmd-K opens the palette (in fields too), `/` goes to
// the page's search, `g` and a letter to a page, `?` shows them all.
import { useEffect, useRef } from 'react';
import { PAGES } from './pages';
import { go } from './router';

const CHORD_MS = 1200;

interface Actions {
  palette: () => void;
  help: () => void;
}

export function useShortcuts(actions: Actions): void {
  const latest = useRef(actions);
  useEffect(() => {
    latest.current = actions;
  });
  useEffect(() => {
    let chordUntil = 0;
    const onKey = (event: KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'k') {
        event.preventDefault();
        latest.current.palette();
        return;
      }
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      if (performance.now() < chordUntil) {
        chordUntil = 0;
        const page = PAGES.find((own) => own.key === event.key);
        if (page) go(page.path);
        return;
      }
      if (event.key === 'g') chordUntil = performance.now() + CHORD_MS;
      else if (event.key === '?') latest.current.help();
      else if (event.key === '/') {
        event.preventDefault();
        document.querySelector<HTMLElement>('[data-search]')?.focus();
      }
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, []);
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}
