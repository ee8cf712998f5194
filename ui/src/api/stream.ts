// Answers that come bit by bit: lines of JSON (ndjson) and Server-Sent Events. Both end when the
// page goes away.
import { useEffect, useRef, useState } from 'react';
import type { Brings, Url } from './paths';

/** Calls `each` with every line of an ndjson answer. */
export async function lines<T>(answer: Response & Brings<'application/x-ndjson', T>, each: (value: T) => void): Promise<void> {
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  if (!reader) return;
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split('\n');
    rest = parts.pop() ?? '';
    for (const part of parts) if (part.trim() !== '') each(JSON.parse(part) as T);
  }
  if (rest.trim() !== '') each(JSON.parse(rest) as T);
}

export type Wire = 'off' | 'connecting' | 'open' | 'lost' | 'refused';

const REFUSED_MS = 30_000;

/** Listens to an event stream while `url` is given. The browser itself connects again after a break. */
export function useEvents<T extends object>(url: Url<'text/event-stream', T> | null, on: { [Name in keyof T]-?: (data: NonNullable<T[Name]>) => void }): Wire {
  const [wire, setWire] = useState<Wire>('off');
  const latest = useRef(on);
  useEffect(() => {
    latest.current = on;
  });
  const names = Object.keys(on).join(' ');
  useEffect(() => {
    if (url === null) return undefined;
    let source: EventSource;
    let again: ReturnType<typeof setTimeout> | undefined;
    const listen = () => {
      source = new EventSource(url);
      source.onopen = () => setWire('open');
      source.onerror = () => {
        if (source.readyState !== EventSource.CLOSED) {
          setWire('lost');
          return;
        }
        // Refused with a status: the browser gives up, we ask again now and then.
        setWire('refused');
        again = setTimeout(listen, REFUSED_MS);
      };
      for (const name of names.split(' ')) {
        source.addEventListener(name, (event: MessageEvent<string>) => {
          latest.current[name as keyof T](JSON.parse(event.data) as NonNullable<T[keyof T]>);
        });
      }
    };
    listen();
    return () => {
      clearTimeout(again);
      source.close();
      setWire('off');
    };
  }, [url, names]);
  return url === null ? 'off' : wire === 'off' ? 'connecting' : wire;
}
