// The geometry of a sparkline: from zero, so that a flat line at ten does not look like noise.

export interface SparkPath {
  line: string;
  area: string;
}

export function path(values: number[], width: number, height: number): SparkPath {
  if (values.length < 2) return { line: '', area: '' };
  const top = Math.max(...values, 0);
  const inner = height - 2;
  const across = width / (values.length - 1);
  const points = values.map((value, at) => {
    const y = top === 0 ? height - 1 : height - 1 - (Math.max(0, value) / top) * inner;
    return `${round(at * across)},${round(y)}`;
  });
  const line = `M${points.join('L')}`;
  return { line, area: `${line}L${width},${height}L0,${height}Z` };
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
