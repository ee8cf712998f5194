// A long list of which only what is seen exists. Rows may differ in height. Up and down (or k and
// j) move the focus between the rows' first buttons or links, Home and End to the ends.
import { useVirtualizer } from '@tanstack/react-virtual';
import { useEffect, useRef, type KeyboardEvent, type ReactNode } from 'react';

interface Props<T> {
  label: string;
  items: T[];
  keyOf: (item: T, index: number) => string | number;
  estimate: number;
  children: (item: T, index: number) => ReactNode;
  /** The end of the list is near. */
  onEnd?: () => void;
  onScroll?: (isAtTop: boolean) => void;
  /** Brought into view when it changes. */
  shown?: number | undefined;
  className?: string;
  footer?: ReactNode;
}

export function Rows<T>({ label, items, keyOf, estimate, children, onEnd, onScroll, shown, className = '', footer }: Props<T>) {
  const box = useRef<HTMLDivElement>(null);
  // The virtualizer changes itself; the compiler would have to know, and does not run here.
  // eslint-disable-next-line react-hooks/incompatible-library
  const virtual = useVirtualizer({
    count: items.length,
    getScrollElement: () => box.current,
    estimateSize: () => estimate,
    overscan: 12,
    getItemKey: (index) => {
      const item = items[index];
      return item === undefined ? index : keyOf(item, index);
    },
  });
  const rows = virtual.getVirtualItems();
  const last = rows.at(-1)?.index ?? -1;

  useEffect(() => {
    if (onEnd && items.length > 0 && last >= items.length - 15) onEnd();
  }, [last, items.length, onEnd]);
  useEffect(() => {
    if (shown !== undefined && shown >= 0) virtual.scrollToIndex(shown, { align: 'center' });
  }, [shown, virtual]);

  const focus = (index: number) => {
    const to = Math.max(0, Math.min(items.length - 1, index));
    virtual.scrollToIndex(to);
    // The row may only exist after the list has moved.
    requestAnimationFrame(() => {
      requestAnimationFrame(() => {
        box.current?.querySelector<HTMLElement>(`[data-index="${to}"] :is(button, a)`)?.focus({ preventScroll: true });
      });
    });
  };
  const onKey = (event: KeyboardEvent) => {
    const target = event.target as HTMLElement;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = Number(target.closest('[data-index]')?.getAttribute('data-index') ?? -1);
    const move: Record<string, number> = { ArrowDown: at + 1, j: at + 1, ArrowUp: at - 1, k: at - 1, Home: 0, End: items.length - 1 };
    const to = move[event.key];
    if (to === undefined) return;
    event.preventDefault();
    focus(to);
  };
  return (
    <div
      ref={box}
      className={`rows ${className}`}
      tabIndex={0}
      role="region"
      aria-label={label}
      onKeyDown={onKey}
      onScroll={(event) => onScroll?.(event.currentTarget.scrollTop < 4)}
    >
      <ul className="rows-all" style={{ height: virtual.getTotalSize() }}>
        {rows.map((row) => {
          const item = items[row.index];
          if (item === undefined) return null;
          return (
            <li
              key={row.key}
              data-index={row.index}
              ref={virtual.measureElement}
              style={{ transform: `translateY(${row.start}px)` }}
              aria-setsize={items.length}
              aria-posinset={row.index + 1}
            >
              {children(item, row.index)}
            </li>
          );
        })}
      </ul>
      {footer}
    </div>
  );
}
