// Hostile text comes out inert, short, and still readable.
import { expect, test } from 'vitest';
import { cut, inert, marked, oneLine, quoted, shown, wordsOf } from './text';

test('escape sequences go, control and direction marks become visible', () => {
  expect(inert('\u001b[1;31mred\u001b[0m')).toBe('red');
  expect(inert('\u001b]0;title\u0007done')).toBe('done');
  expect(inert('bell\u0007 \u0000')).toBe('bell␇ ␀');
  expect(inert('a\u202Eb')).toBe('a<U+202E>b');
  expect(inert('tab\tand\nline')).toBe('tab\tand\nline');
});

test('a megabyte becomes a row, quickly', () => {
  const begun = performance.now();
  const row = oneLine('x'.repeat(1 << 20));
  expect(row).toHaveLength(601);
  expect(performance.now() - begun).toBeLessThan(20);
  expect(oneLine('one\n  two')).toBe('one ⏎ two');
});

test('what is cut is counted', () => {
  expect(cut('abcdef', 4)).toEqual({ text: 'abcd', left: 2 });
  expect(cut('abc', 4)).toEqual({ text: 'abc', left: 0 });
});

test('the free words of a query are marked, terms and exclusions are not', () => {
  expect(wordsOf('timeout service:orders level>=warn -debug "bank said no" /re/ AND')).toEqual(['timeout', 'bank said no']);
  expect(marked('a Bank is a bank', ['bank']).filter((piece) => piece.hit).map((piece) => piece.text)).toEqual(['Bank', 'bank']);
  expect(marked('1.5 (x)', ['(x)'])).toEqual([{ text: '1.5 ', hit: false }, { text: '(x)', hit: true }]);
});

test('values are quoted where a query needs it', () => {
  expect(quoted('orders-r2-1')).toBe('orders-r2-1');
  expect(quoted('two words')).toBe('"two words"');
  expect(shown({ a: 1 })).toBe('{"a":1}');
});
