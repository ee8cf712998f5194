// The waterfall holds whatever spans come: lost parents, circles, clocks that differ.
import { expect, test } from 'vitest';
import type { LogView, SpanView, TraceView } from '../api/types';
import { compare } from './compare';
import { criticalShares, titleOf, waterfall } from './trace';

const at = (us: number) => `2026-01-01T00:00:00.${String(us).padStart(6, '0')}Z`;

function span(id: string, parent: string | null, from: number, took: number, more: Partial<SpanView> = {}): SpanView {
  return {
    trace: 't', span: id, parent, service: id.charAt(0), instance: 'i', name: id, kind: 'server', start: at(from), duration_us: took, status: 'ok', status_message: '',
    caller: null, inferred: false, attributes: {}, events: [], links: [], ...more,
  };
}

function trace(spans: SpanView[], critical: string[] = [], logs: LogView[] = []): TraceView {
  return { trace: 't', spans, logs, critical_path: critical };
}

function log(span: string, us: number): LogView {
  return { number: us, time: at(us), service: 's', instance: 'i', revision: 1, stream: 'stdout', level: 'info', trace: 't', span, message: `at ${us}`, attributes: {} };
}

const drawn = (own: TraceView, collapsed: string[] = [], notes = false) =>
  waterfall(own, new Set(collapsed), notes).rows.map((row) => `${' '.repeat(row.depth)}${row.kind === 'span' ? row.span.span : row.text}`);

test('children stand under their parents, in time', () => {
  expect(drawn(trace([span('b2', 'a', 50, 10), span('a', null, 0, 100), span('b1', 'a', 10, 10), span('c', 'b1', 12, 3)]))).toEqual(['a', ' b1', '  c', ' b2']);
});

test('a lost parent makes a root, a circle is cut', () => {
  expect(drawn(trace([span('a', 'gone', 0, 10), span('x', 'y', 3, 1), span('y', 'x', 4, 1)]))).toEqual(['a', 'x', ' y']);
});

test('collapsed spans hide all below', () => {
  const own = trace([span('a', null, 0, 100), span('b', 'a', 10, 50), span('c', 'b', 20, 5)]);
  expect(drawn(own, ['a'])).toEqual(['a']);
  expect(drawn(own, ['b'])).toEqual(['a', ' b']);
});

test('what was said stands between the children, when it was said', () => {
  const own = trace([span('a', null, 0, 100), span('b', 'a', 50, 10)], [], [log('a', 70), log('a', 20), log('gone', 5)]);
  expect(drawn(own, [], true)).toEqual(['a', ' at 20', ' b', ' at 70', 'at 5']);
});

test('the time of the critical path belongs to the innermost span', () => {
  const own = trace([span('a', null, 0, 100), span('b', 'a', 10, 60), span('c', 'b', 20, 10)], ['a', 'b', 'c']);
  expect(criticalShares(own)).toEqual([{ service: 'b', us: 50 }, { service: 'a', us: 40 }, { service: 'c', us: 10 }]);
});

test('two traces: repeated calls add up, what only one has stands where it happened', () => {
  const first = trace([span('a', null, 0, 100), span('b', 'a', 10, 10), span('z', 'a', 90, 5)]);
  const second = trace([span('a', null, 0, 300), span('b', 'a', 10, 20), span('b', 'a', 40, 20, { span: 'b-again' }), span('c', 'b-again', 42, 2), span('n', 'a', 70, 5), span('z', 'a', 90, 5)]);
  const rows = compare(first, second);
  expect(rows.map((row) => row.name)).toEqual(['a', 'b', 'c', 'n', 'z']);
  expect(rows[1]?.b).toEqual({ calls: 2, us: 40, errors: 0 });
  expect(rows[3]?.a.calls).toBe(0);
});

test('a request shows its path, other spans their name', () => {
  const attributes = { 'http.request.method': 'GET', 'url.path': '/orders/7' };
  expect(titleOf(span('a', null, 0, 1, { name: 'GET /orders/{id}', caller: 'edge', attributes }))).toBe('GET /orders/7');
  expect(titleOf(span('a', null, 0, 1, { name: 'work', attributes }))).toBe('work');
});
