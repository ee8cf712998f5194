// A label over its field, and a hint below. And the search field: what is typed reaches the
// address after a moment, so that a fast typist asks once.
import { useEffect, useId, useRef, useState, type ReactNode } from 'react';
import { Icon } from './Icon';

export function Field({ label, hint, children }: { label: string; hint?: string; children: (id: string) => ReactNode }) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children(id)}
      {hint !== undefined && <p className="hint">{hint}</p>}
    </div>
  );
}

const PAUSE_MS = 220;

interface SearchProps {
  label: string;
  value: string;
  placeholder?: string;
  onChange: (value: string) => void;
  /** What is wrong with it. */
  trouble?: string | undefined;
}

export function Search({ label, value, placeholder, onChange, trouble }: SearchProps) {
  const [typed, setTyped] = useState(value);
  const sent = useRef(value);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const troubleId = useId();

  // Changed from elsewhere: a facet, the back button.
  useEffect(() => {
    if (value !== sent.current) {
      sent.current = value;
      setTyped(value);
    }
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);

  const tell = (next: string, pause: number) => {
    setTyped(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      sent.current = next;
      onChange(next);
    }, pause);
  };
  return (
    <div className="search">
      <Icon name="search" />
      <input
        type="search"
        aria-label={label}
        data-search=""
        value={typed}
        placeholder={placeholder}
        spellCheck={false}
        autoCapitalize="off"
        autoComplete="off"
        aria-invalid={trouble !== undefined}
        aria-describedby={trouble === undefined ? undefined : troubleId}
        onChange={(event) => tell(event.target.value, PAUSE_MS)}
        onKeyDown={(event) => {
          if (event.key === 'Enter') tell(typed, 0);
        }}
      />
      {trouble !== undefined && (
        <p className="trouble" id={troubleId} role="alert">
          {trouble}
        </p>
      )}
    </div>
  );
}
