// What charts share: colors from the style sheet, axes, marks of events, the tooltip. Text from
// outside goes through textContent only.
import uPlot from 'uplot';
import { clock } from '../lib/format';
import { oneLine } from '../lib/text';

export interface Mark {
  /** Milliseconds since 1970. */
  time: number;
  text: string;
  color: string;
}

/** The color behind a variable, as this theme has it. */
export function colorOf(host: HTMLElement, name: string, alpha = 1): string {
  const probe = document.createElement('span');
  probe.style.color = `var(${name})`;
  host.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return alpha === 1 ? found : found.replace(/^rgb\(([^)]+)\)$/, `rgba($1, ${alpha})`);
}

export function axes(host: HTMLElement, unit: (value: number) => string, log = false): uPlot.Axis[] {
  const text = colorOf(host, '--dim');
  const line = colorOf(host, '--line');
  const font = `11px ${getComputedStyle(host).fontFamily}`;
  const shared = { stroke: text, font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 } };
  return [
    { ...shared, size: 26, gap: 4, grid: { show: false }, space: 70, ...hours() },
    // On a logarithmic scale only the decades are lines; nine more between two of them would be a gray field.
    { ...shared, ...(log ? { grid: { ...shared.grid, filter: decades } } : {}), size: 62, gap: 6, ticks: { show: false }, space: 30, values: (_, splits) => splits.map((value: number | null) => (value === null ? '' : unit(value))) },
  ];
}

function decades(_: uPlot, splits: number[]): (number | null)[] {
  return splits.map((value) => (Number.isInteger(Math.log10(value)) ? value : null));
}

function hours(): Pick<uPlot.Axis, 'values'> {
  return {
    values: (self, splits) => {
      const first = self.scales.x?.min ?? 0;
      const last = self.scales.x?.max ?? 0;
      return splits.map((seconds) => {
        const date = new Date(seconds * 1000);
        const isMidnight = date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0;
        if (isMidnight || last - first > 172_800) return date.toLocaleDateString('en-US', { month: 'short', day: 'numeric' });
        return clock(date.toISOString(), false).slice(0, last - first < 300 ? 8 : 5);
      });
    },
  };
}

/** Pixels between two marks. */
const CLOSE = 5;

/** Thin lines where something happened. */
export function marksPlugin(host: HTMLElement, marks: () => Mark[]): uPlot.Plugin {
  return {
    hooks: {
      draw: (self) => {
        const { ctx, bbox } = self;
        ctx.save();
        ctx.lineWidth = devicePixelRatio;
        // What belongs together happens within a second: one faint line, so that the curves behind it stay to be seen.
        ctx.globalAlpha = 0.55;
        let last = -Infinity;
        for (const mark of marks().toSorted((a, b) => a.time - b.time)) {
          const x = Math.round(self.valToPos(mark.time / 1000, 'x', true));
          if (x < bbox.left || x > bbox.left + bbox.width || x - last < CLOSE * devicePixelRatio) continue;
          last = x;
          ctx.strokeStyle = colorOf(host, mark.color);
          ctx.setLineDash([4, 3]);
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
        }
        ctx.restore();
      },
    },
  };
}

interface Tip {
  lines: () => { label: string; kind: string }[];
  unit: (value: number) => string;
  marks: () => Mark[];
  tell: (line: number, index: number) => string;
  onPoint: (line: number, index: number) => void;
}

const NEAR = 14;

export function tooltipPlugin(tip: Tip): uPlot.Plugin {
  let box: HTMLDivElement | undefined;
  let over: { line: number; index: number } | undefined;
  return {
    hooks: {
      init: (self) => {
        box = document.createElement('div');
        box.className = 'chart-tip';
        box.hidden = true;
        self.over.append(box);
        self.over.addEventListener('mouseleave', () => {
          if (box) box.hidden = true;
        });
        self.over.addEventListener('click', () => {
          if (over) tip.onPoint(over.line, over.index);
        });
      },
      setCursor: (self) => {
        if (!box) return;
        over = nearest(self, tip.lines());
        const rows = rowsOf(self, tip, over);
        self.over.style.cursor = over ? 'pointer' : '';
        box.hidden = rows.length === 0;
        box.replaceChildren(...rows.map((row) => Object.assign(document.createElement('div'), { textContent: row })));
        const left = self.cursor.left ?? 0;
        const isRight = left > self.over.clientWidth / 2;
        box.style.left = isRight ? '' : `${left + 14}px`;
        box.style.right = isRight ? `${self.over.clientWidth - left + 14}px` : '';
      },
    },
  };
}

function rowsOf(self: uPlot, tip: Tip, over: { line: number; index: number } | undefined): string[] {
  const at = self.cursor.idx;
  const left = self.cursor.left ?? -1;
  if (left < 0) return [];
  const near = tip.marks().filter((mark) => Math.abs(self.valToPos(mark.time / 1000, 'x') - left) < 5);
  const notes = near.slice(0, 4).map((mark) => oneLine(mark.text, 120));
  if (over) return [tip.tell(over.line, over.index), ...notes];
  if (at === null || at === undefined) return notes;
  const time = self.data[0][at];
  if (time === undefined) return notes;
  const values = tip.lines().flatMap((line, index) => {
    const value = self.data[index + 1]?.[at];
    return value === null || value === undefined || line.kind === 'points' ? [] : [`${oneLine(line.label, 80)}  ${tip.unit(value)}`];
  });
  if (values.length === 0) return notes;
  const more = values.length > 10 ? [`and ${values.length - 10} more`] : [];
  return [clock(new Date(time * 1000).toISOString(), false), ...values.slice(0, 10), ...more, ...notes];
}

/** The point under the cursor, of those that can be clicked. */
function nearest(self: uPlot, lines: { kind: string }[]): { line: number; index: number } | undefined {
  const left = self.cursor.left ?? -1;
  const top = self.cursor.top ?? -1;
  let best: { line: number; index: number } | undefined;
  let distance = NEAR;
  lines.forEach((line, at) => {
    if (line.kind !== 'points' || left < 0) return;
    self.data[0].forEach((time, index) => {
      const value = self.data[at + 1]?.[index];
      if (value === null || value === undefined) return;
      const away = Math.hypot(self.valToPos(time, 'x') - left, self.valToPos(value, 'y') - top);
      if (away < distance) {
        distance = away;
        best = { line: at, index };
      }
    });
  });
  return best;
}
