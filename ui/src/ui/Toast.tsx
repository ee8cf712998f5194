// Short news of what an action did, read out politely, gone after a while. Failures stay longer.
import { useSyncExternalStore } from 'react';

interface Toast {
  id: number;
  text: string;
  bad: boolean;
}

let toasts: Toast[] = [];
let last = 0;
const listeners = new Set<() => void>();

function changed(next: Toast[]): void {
  toasts = next;
  for (const listener of listeners) listener();
}

export function toast(text: string, bad = false): void {
  last += 1;
  const id = last;
  changed([...toasts, { id, text, bad }].slice(-3));
  setTimeout(() => changed(toasts.filter((own) => own.id !== id)), bad ? 10_000 : 5000);
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function Toasts() {
  const shown = useSyncExternalStore(subscribe, () => toasts);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {shown.map((own) => (
        <p key={own.id} className={own.bad ? 'toast toast-bad' : 'toast'}>
          {own.text}
        </p>
      ))}
    </div>
  );
}
