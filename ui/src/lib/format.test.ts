// Numbers, durations and times as they are read.
import { expect, test } from 'vitest';
import { ago, bytes, count, duration, micros, number, percent, rate } from './format';

test('three digits, never an exponent', () => {
  expect([0, 0.0312, 1.256, 42.14, 950.4, 12_400].map(number)).toEqual(['0', '0.031', '1.26', '42.1', '950', '12,400']);
  expect(number(Number.NaN)).toBe('–');
  expect([9999, 12_400, 3_100_000].map(count)).toEqual(['9,999', '12.4k', '3.1M']);
});

test('durations have the unit that fits', () => {
  expect([12, 1500, 2_500_000, 119e6, 125e6, 3_600e6 * 5, 86_400e6 * 3 + 3_600e6 * 2].map(duration)).toEqual(['12 µs', '1.5 ms', '2.5 s', '119 s', '2 m 5 s', '5 h', '3 d 2 h']);
});

test('bytes, shares, rates', () => {
  expect([500, 1536, 128 * 1_048_576].map(bytes)).toEqual(['500 B', '1.5 KiB', '128 MiB']);
  expect([0, 0.00001, 0.0028, 0.18, 1].map(percent)).toEqual(['0 %', '<0.01 %', '0.28 %', '18 %', '100 %']);
  expect([0, 0.05, 4.37].map(rate)).toEqual(['0/s', '3/min', '4.37/s']);
});

test('ages and microseconds', () => {
  const now = Date.parse('2026-01-01T00:10:00Z');
  expect(ago('2026-01-01T00:09:59.5Z', now)).toBe('now');
  expect(ago('2026-01-01T00:09:20Z', now)).toBe('40 s');
  expect(ago('2025-12-31T22:10:00Z', now)).toBe('2 h');
  expect(micros('2026-01-01T00:00:00.123456Z') % 1_000_000).toBe(123_456);
  expect(micros('2026-01-01T00:00:00Z') % 1_000_000).toBe(0);
});
