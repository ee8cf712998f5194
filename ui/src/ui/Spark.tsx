// A little curve without axes: how it went lately. Decoration for the eye; the number beside it is
// the fact, so it is hidden from screen readers.
import { path } from '../lib/spark';

interface Props {
  values: number[];
  tone?: 'plain' | 'bad' | 'warn';
  width?: number;
  height?: number;
}

export function Spark({ values, tone = 'plain', width = 96, height = 22 }: Props) {
  const { line, area } = path(values, width, height);
  return (
    <svg className={`spark spark-${tone}`} viewBox={`0 0 ${width} ${height}`} width={width} height={height} aria-hidden="true" preserveAspectRatio="none">
      <path className="spark-area" d={area} />
      <path className="spark-line" d={line} />
    </svg>
  );
}
