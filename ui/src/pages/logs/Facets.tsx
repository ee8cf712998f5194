// Counts by service, level and instance; a click narrows the search, another takes it back.
import { useState } from 'react';
import type { FacetValue, LogFacets } from '../../api/types';
import { count } from '../../lib/format';
import { hasTerm } from '../../lib/query';
import { inert } from '../../lib/text';

const SHOWN = 12;
const NAMES = ['level', 'service', 'instance'] as const;

interface Props {
  facets: LogFacets | undefined;
  q: string;
  onToggle: (key: string, value: string) => void;
}

export function Facets({ facets, q, onToggle }: Props) {
  const [isWide] = useState(() => matchMedia('(min-width: 901px)').matches);
  return (
    <details className="facets" open={isWide}>
      <summary>Narrow by level, service, instance</summary>
      {NAMES.map((name) => (
        <Facet key={name} name={name} values={facets?.[name] ?? []} q={q} onToggle={onToggle} />
      ))}
    </details>
  );
}

function Facet({ name, values, q, onToggle }: { name: string; values: FacetValue[]; q: string; onToggle: Props['onToggle'] }) {
  const [all, setAll] = useState(false);
  if (values.length === 0) return null;
  return (
    <section aria-label={`By ${name}`}>
      <h2>{name}</h2>
      {values.slice(0, all ? 200 : SHOWN).map((own) => (
        <button key={own.value} type="button" className="facet" aria-pressed={hasTerm(q, name, own.value)} onClick={() => onToggle(name, own.value)}>
          <span className="clip">{inert(own.value)}</span> <span className="num">{count(own.count)}</span>
        </button>
      ))}
      {values.length > SHOWN && !all && (
        <button type="button" className="facet" onClick={() => setAll(true)}>
          <span className="dim">{values.length - SHOWN} more</span>
        </button>
      )}
    </section>
  );
}
