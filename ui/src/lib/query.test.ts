// Editing queries by clicks, ids of traces, spans of time, the palette, and what is wrong.
import { expect, test } from 'vitest';
import { choices } from './palette';
import { excluded, hasTerm, toggled, traceId, valueOf } from './query';
import { rangeOf, step, zoomed } from './range';
import { curves } from './curves';
import { path } from './spark';

const ID = '4bf92f3577b34da6a3ce929d0e0e4736';

test('terms come and go, and take the place of another value', () => {
  expect(toggled('timeout', 'service', 'orders')).toBe('timeout service:orders');
  expect(toggled('timeout service:orders', 'service', 'orders')).toBe('timeout');
  expect(toggled('service:orders "a b"', 'service', 'payments')).toBe('"a b" service:payments');
  expect(toggled('', 'user', 'two words')).toBe('user:"two words"');
  expect(excluded('service:orders x', 'service', 'orders')).toBe('x -service:orders');
  expect(hasTerm('a user:"two words"', 'user', 'two words')).toBe(true);
  expect(valueOf('x service:orders', 'service')).toBe('orders');
});

test('a term added to a query with OR narrows all of it', () => {
  expect(toggled('a OR b', 'level', 'error')).toBe('(a OR b) level:error');
  expect(toggled('(a OR b) level:error', 'level', 'error')).toBe('(a OR b)');
  expect(excluded('a OR level:error', 'level', 'error')).toBe('(a OR level:error) -level:error');
  expect(toggled('level:warn OR b', 'level', 'error')).toBe('(level:warn OR b) level:error');
  expect(hasTerm('level:error OR b', 'level', 'error')).toBe(false);
  expect(valueOf('(level:warn OR b) level:error', 'level')).toBe('error');
  expect(toggled('"a OR b" x', 'level', 'error')).toBe('"a OR b" x level:error');
  expect(toggled('/a OR b/ "say \\"OR\\" x"', 'level', 'error')).toBe('/a OR b/ "say \\"OR\\" x" level:error');
  expect(toggled('/orders/7 OR b', 'level', 'error')).toBe('(/orders/7 OR b) level:error');
  expect(toggled('timeout AND level:error', 'level', 'error')).toBe('timeout');
  expect(toggled('NOT level:error', 'level', 'error')).toBe('NOT level:error level:error');
});

test('a trace id is found in what was pasted', () => {
  expect(traceId(` ${ID.toUpperCase()}\n`)).toBe(ID);
  expect(traceId(`00-${ID}-00f067aa0ba902b7-01`)).toBe(ID);
  expect(traceId(`${ID}0`)).toBeUndefined();
});

test('ranges: presets, two moments, nonsense', () => {
  const now = 1_000_000_000;
  expect(rangeOf(new URLSearchParams('range=15m'), now)).toEqual({ preset: '15m', since: now - 900_000, until: now });
  expect(rangeOf(new URLSearchParams('since=2026-01-01T00:00:00Z&until=2026-01-01T01:00:00Z'), now).preset).toBeNull();
  expect(rangeOf(new URLSearchParams('since=2026-01-01T02:00:00Z&until=2026-01-01T01:00:00Z'), now).preset).toBe('1h');
  expect(rangeOf(new URLSearchParams('range=zzz'), now).preset).toBe('1h');
  expect(zoomed({ preset: null, since: 0, until: 100 }, 2, 120)).toEqual([-80, 120]);
  expect(step({ preset: null, since: 0, until: 3_600_000 }, 120)).toBe(30e6);
});

test('the palette ranks beginnings first and always offers a search', () => {
  const pages = [{ name: 'Overview', path: '/', hint: '' }, { name: 'Logs', path: '/logs', hint: '' }];
  expect(choices('', pages, ['orders']).map((own) => own.to)).toEqual(['/', '/logs', '/services/orders']);
  expect(choices('ord', pages, ['orders', 'words'])[0]?.to).toBe('/services/orders');
  expect(choices('ord', pages, ['orders']).at(-1)?.to).toBe('/logs?q=ord');
  expect(choices(ID, pages, [])[0]?.to).toBe(`/traces/${ID}`);
});

test('rates add up, of percentiles the worst counts', () => {
  const found = { step_us: 1, left_out: 0, series: [{ labels: { service: 'a' }, points: [[1, 2], [2, null]] as [number, number | null][], exemplars: [] }, { labels: { callee: 'a' }, points: [[1, 3], [2, 5]] as [number, number | null][], exemplars: [] }] };
  expect(curves([found], 'sum')).toEqual({ a: [5, 5] });
  expect(curves([found, undefined], 'max')).toEqual({ a: [3, 5] });
});

test('curves begin at zero', () => {
  expect(path([0, 10], 10, 12).line).toBe('M0,11L10,1');
  expect(path([5], 10, 12).line).toBe('');
});
