// uPlot in the console's dress: colors of the theme, time below, one tooltip, drag to choose a
// span, marks of events, points that can be clicked. Drawn again when its shape or the theme
// changes; new numbers only replace the data.
import { useEffect, useRef } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { useDark } from '../app/theme';
import { axes, colorOf, marksPlugin, tooltipPlugin, type Mark } from './chartparts';

export interface Line {
  label: string;
  /** The name of a color variable, as in `--bad`. */
  color: string;
  kind: 'line' | 'area' | 'bars' | 'points';
}

interface Props {
  label: string;
  /** Seconds since 1970, then the values of each line. */
  data: uPlot.AlignedData;
  lines: Line[];
  height: number;
  unit: (value: number) => string;
  log?: boolean;
  span?: { since: number; until: number };
  marks?: Mark[];
  onSpan?: (since: number, until: number) => void;
  /** A point of `points` lines was clicked: its line and place. */
  onPoint?: (line: number, index: number) => void;
  /** More for the tooltip of a point. */
  tell?: (line: number, index: number) => string;
}

const none: Mark[] = [];

export function Chart(props: Props) {
  const { label, data, lines, height, log = false, span, marks = none } = props;
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const isDark = useDark();
  const latest = useRef({ ...props, marks });
  useEffect(() => {
    latest.current = { ...props, marks };
  });
  const shape = JSON.stringify([lines, height, log, isDark]);

  useEffect(() => {
    const host = box.current;
    if (!host) return undefined;
    const now = latest.current;
    const made = new uPlot(
      {
        width: Math.max(200, host.clientWidth),
        height,
        legend: { show: false },
        padding: [8, 18, 0, 0],
        scales: {
          x: { time: true, range: (_, min, max) => spanOf(latest.current.span, min, max) },
          // uPlot's own name for it is a const enum that only its types have.
          // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment
          y: now.log ? { distr: 3 } : { range: (_, __, max) => [0, max > 0 ? max * 1.08 : 1] },
        },
        axes: axes(host, (value) => latest.current.unit(value), now.log),
        cursor: { drag: { x: latest.current.onSpan !== undefined, y: false, setScale: false }, points: { show: false } },
        series: [{}, ...now.lines.map((line) => seriesOf(host, line))],
        plugins: [
          marksPlugin(host, () => latest.current.marks),
          tooltipPlugin({
            lines: () => latest.current.lines,
            unit: (value) => latest.current.unit(value),
            marks: () => latest.current.marks,
            tell: (line, index) => latest.current.tell?.(line, index) ?? '',
            onPoint: (line, index) => latest.current.onPoint?.(line, index),
          }),
        ],
        hooks: {
          setSelect: [
            (self) => {
              if (self.select.width < 4) return;
              const since = self.posToVal(self.select.left, 'x') * 1000;
              const until = self.posToVal(self.select.left + self.select.width, 'x') * 1000;
              self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
              latest.current.onSpan?.(since, until);
            },
          ],
        },
      },
      now.data,
      host,
    );
    plot.current = made;
    const watcher = new ResizeObserver(() => made.setSize({ width: Math.max(200, host.clientWidth), height }));
    watcher.observe(host);
    return () => {
      watcher.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape, height]);

  useEffect(() => {
    plot.current?.setData(data);
  }, [data, span?.since, span?.until, marks]);

  return <div ref={box} className="chart" role="img" aria-label={label} style={{ minHeight: height }} />;
}

function spanOf(span: Props['span'], min: number, max: number): uPlot.Range.MinMax {
  return span ? [span.since / 1000, span.until / 1000] : [min, max];
}

function barsPath(): Pick<uPlot.Series, 'paths'> {
  const build = uPlot.paths.bars?.({ size: [0.85, 40], gap: 1 });
  return build ? { paths: build } : {};
}

/** A value between two gaps would not be seen: a line needs two. */
function alone(self: uPlot, line: number): number[] | null {
  const values = self.data[line] ?? [];
  const found: number[] = [];
  values.forEach((value, at) => {
    if (value != null && values[at - 1] == null && values[at + 1] == null) found.push(at);
  });
  return found.length > 0 ? found : null;
}

function seriesOf(host: HTMLElement, line: Line): uPlot.Series {
  const color = colorOf(host, line.color);
  const base: uPlot.Series = { label: line.label, stroke: color, width: 1.5, points: { show: false, filter: alone, size: 5, fill: color, stroke: color, width: 0 }, spanGaps: false };
  switch (line.kind) {
    case 'bars':
      return { ...base, fill: color, width: 0, ...barsPath() };
    case 'points':
      return { ...base, paths: () => null, points: { show: true, filter: () => null, size: 5.5, fill: color, stroke: color, width: 0 } };
    case 'area':
      return { ...base, fill: colorOf(host, line.color, 0.14) };
    case 'line':
      return base;
  }
}
