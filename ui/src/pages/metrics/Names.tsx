// The metrics by name, with a filter; on a phone a list to unfold.
import { Fragment, useState } from 'react';
import type { MetricName } from '../../api/types';

/** May break after an underscore, not within a word. */
function broken(name: string) {
  return name.split(/(?<=_)/).map((part, at) => (
    <Fragment key={at}>
      {part}
      <wbr />
    </Fragment>
  ));
}

interface Props {
  names: MetricName[];
  chosen: string;
  onChoose: (name: string) => void;
}

export function Names({ names, chosen, onChoose }: Props) {
  const [typed, setTyped] = useState('');
  const [isWide] = useState(() => matchMedia('(min-width: 901px)').matches);
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = names.filter((own) => words.every((word) => `${own.name} ${own.help}`.toLowerCase().includes(word)));
  return (
    <details className="facets" open={isWide || chosen === ''}>
      <summary>{chosen === '' ? 'Choose a metric' : chosen}</summary>
      <input type="search" data-search="" aria-label="Filter metrics" placeholder="Filter" value={typed} onChange={(event) => setTyped(event.target.value)} />
      <div className="names">
        {shown.map((own) => (
          <button key={own.name} type="button" className="facet" aria-pressed={own.name === chosen} title={own.help} onClick={() => onChoose(own.name)}>
            <span className="metric-name">{broken(own.name)}</span> <span className="num small">{own.kind}</span>
          </button>
        ))}
        {shown.length === 0 && <p className="dim small">No metric by that name.</p>}
      </div>
    </details>
  );
}
