// The map: callers before the called, every edge drawn, ill nodes seen.
import { expect, test } from 'vitest';
import type { MapView } from '../api/types';
import { curve, health, picture, thickness } from './graph';
import { ready, summary } from './series';

const load = { rate: 1, error_rate: 0, p50_us: 1, p95_us: 1, p99_us: 1 };
const view: MapView = {
  nodes: ['edge', 'a', 'b'].map((name) => ({ name, kind: 'service', state: null, ...load })),
  edges: [{ from: 'edge', to: 'a', kind: 'http', ...load }, { from: 'a', to: 'b', kind: 'event', ...load }, { from: 'b', to: 'a', kind: 'http', ...load }, { from: 'a', to: 'gone', kind: 'http', ...load }],
};

test('layers go from the edge inwards, circles and lost nodes do no harm', () => {
  const drawn = picture(view, false);
  const x = (name: string) => drawn.nodes.find((own) => own.node.name === name)?.x ?? -1;
  expect(x('edge')).toBeLessThan(x('a'));
  expect(x('a')).toBeLessThan(x('b'));
  expect(drawn.edges).toHaveLength(3);
  expect(picture({ nodes: [], edges: [] }, true).nodes).toEqual([]);
  expect(Math.min(...drawn.nodes.map((own) => own.x))).toBe(16);
});

test('curves go through their ends', () => {
  expect(curve([{ x: 0, y: 0 }, { x: 4, y: 8 }])).toBe('M0,0C2,0 2,8 4,8');
  expect(curve([{ x: 0, y: 0 }])).toBe('');
});

test('traffic and health', () => {
  expect(thickness(0)).toBe(1);
  expect(thickness(1e6)).toBe(6);
  expect(health({ rate: 10, error_rate: 1 })).toBe('bad');
  expect(health({ rate: 10, error_rate: 0.2 })).toBe('warn');
  expect(health({ rate: 10, error_rate: 0 }, 'degraded')).toBe('warn');
  expect(health({ rate: 0, error_rate: 0 })).toBe('idle');
});

test('series are joined by a label, missing points stay missing', () => {
  const found = { step_us: 1e6, left_out: 0, series: [
    { labels: { s: 'a', c: '2xx' }, points: [[1e6, 1], [2e6, 2]] as [number, number | null][], exemplars: [] },
    { labels: { s: 'a', c: '5xx' }, points: [[1e6, 3], [3e6, null]] as [number, number | null][], exemplars: [] },
  ] };
  expect(ready([found], 'sum').lines.map((own) => own.name)).toEqual(['2xx', '5xx']);
  expect(ready([found], 'sum', 's')).toEqual({ times: [1, 2, 3], lines: [{ name: 'a', values: [4, 2, null], labels: { s: 'a', c: '2xx' } }] });
  expect(ready([found], 'max', '').lines[0]?.values).toEqual([3, 2, null]);
  expect(summary([1, null, 3])).toEqual({ last: 3, min: 1, max: 3, mean: 2 });
  expect(summary([null])).toEqual({ last: null, min: 0, max: 0, mean: 0 });
});
