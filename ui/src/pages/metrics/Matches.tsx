// Narrowing by labels: what is chosen, and the values that the shown series have.
import type { MetricName, Series } from '../../api/types';
import { inert } from '../../lib/text';

interface Props {
  metric: MetricName;
  series: Series[];
  /** `label:value,label:value`. */
  match: string;
  onMatch: (match: string | null) => void;
}

export function Matches({ metric, series, match, onMatch }: Props) {
  const chosen = match.split(',').filter(Boolean);
  const taken = new Set(chosen.map((own) => own.split(':')[0]));
  const offered = metric.labels.filter((label) => !taken.has(label));
  return (
    <>
      {chosen.map((own) => (
        <button key={own} type="button" className="btn btn-small" aria-pressed="true" title="Take it away" onClick={() => onMatch(chosen.filter((other) => other !== own).join(','))}>
          {inert(own)} ×
        </button>
      ))}
      {offered.map((label) => {
        const values = [...new Set(series.map((own) => own.labels[label]).filter((value) => value !== undefined))].sort();
        if (values.length < 2) return null;
        return (
          <select key={label} aria-label={`Only this ${label}`} value="" onChange={(event) => onMatch([...chosen, `${label}:${event.target.value}`].join(','))}>
            <option value="">only {label} …</option>
            {values.slice(0, 500).map((value) => (
              <option key={value} value={value}>
                {inert(value)}
              </option>
            ))}
          </select>
        );
      })}
    </>
  );
}
