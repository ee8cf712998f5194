// Following the log: new lines come to the top. While the reader is further down (or has a line
// open) they wait, and are counted. A flood is taken in ten times a second, and only so many kept.
import { useCallback, useEffect, useRef, useState } from 'react';
import { at } from '../../api/paths';
import { useEvents, type Wire } from '../../api/stream';
import type { LogView } from '../../api/types';

const KEPT = 10_000;
/** Ten thousand lines of a megabyte would be too much for any browser. */
const MESSAGE_MAX = 8192;
const FLUSH_MS = 100;

function bounded(line: LogView): LogView {
  if (line.message.length <= MESSAGE_MAX) return line;
  return { ...line, message: `${line.message.slice(0, MESSAGE_MAX)} … (${line.message.length - MESSAGE_MAX} more characters: search for the line to see them)` };
}

export interface Tail {
  wire: Wire;
  /** Newest first. */
  lines: LogView[];
  waiting: number;
  release: () => void;
}

export function useTail(on: boolean, q: string, held: boolean): Tail {
  const [lines, setLines] = useState<LogView[]>([]);
  const [waiting, setWaiting] = useState(0);
  const queue = useRef<LogView[]>([]);
  const wire = useEvents(on ? at('/v1/logs/live', { q }) : null, {
    log: (data) => {
      queue.current.unshift(bounded(data));
      if (queue.current.length > KEPT) queue.current.length = KEPT;
    },
  });

  const release = useCallback(() => {
    const fresh = queue.current;
    if (fresh.length > 0) {
      queue.current = [];
      setLines((old) => [...fresh, ...old].slice(0, KEPT));
    }
    setWaiting(0);
  }, []);

  useEffect(() => {
    if (!on) return undefined;
    const timer = setInterval(() => {
      if (held) setWaiting(queue.current.length);
      else release();
    }, FLUSH_MS);
    return () => clearInterval(timer);
  }, [on, held, release]);

  // Another question: what came for the old one goes.
  useEffect(() => {
    queue.current = [];
    return () => {
      setLines([]);
      setWaiting(0);
    };
  }, [on, q]);
  return { wire, lines, waiting, release };
}
