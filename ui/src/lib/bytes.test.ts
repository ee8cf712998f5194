// Values of records: nothing but white space changes, letters are grouped, bytes are told.
import { expect, test } from 'vitest';
import type { LetterView } from '../api/types';
import { jsonTrouble, pretty, shownText } from './bytes';
import { grouped } from './letters';

test('JSON is laid out without touching its values', () => {
  expect(pretty('{"a":[1,{"b":"x, {y}: \\"z\\""}],"c":{},"d":[]}')).toBe('{\n  "a": [\n    1,\n    {\n      "b": "x, {y}: \\"z\\""\n    }\n  ],\n  "c": {},\n  "d": []\n}');
  expect(pretty('{"id":12345678901234567890,"n":1.10e5,"a":1,"a":2}')).toBe('{\n  "id": 12345678901234567890,\n  "n": 1.10e5,\n  "a": 1,\n  "a": 2\n}');
  const made = { a: [1, [2, []], { b: null }], c: 'd' };
  expect(pretty(JSON.stringify(made))).toBe(JSON.stringify(made, null, 2));
  expect(pretty('plain, {text}')).toBe('plain, {text}');
  expect(pretty('{"broken": ')).toBe('{"broken": ');
});

test('what looks like JSON and is none is told', () => {
  expect(jsonTrouble('{"a":1}')).toBeUndefined();
  expect(jsonTrouble('hello')).toBeUndefined();
  expect(jsonTrouble('{"a":')).toBeDefined();
});

test('bytes are told, not shown', () => {
  expect(shownText({ base64: 'AAECA/8=' })).toBe('(5 bytes, base64) AAECA/8=');
  expect(shownText(null)).toBe('');
});

test('letters are grouped by what they died of, the largest group first', () => {
  const letter = (group: string, died: string): LetterView => ({
    id: `s/t/${died}`, service: 's', topic: 't', partition: 0, offset: 0, path: '/', died, attempts: 1, deaths: 1, reason: group, answer: null, trace: '', group, key: null, value: null, edited: false, headers: [],
  });
  const groups = grouped([letter('a', '1'), letter('b', '2'), letter('b', '4'), letter('b', '3')]);
  expect(groups.map((own) => [own.group, own.letters.length, own.newest])).toEqual([['b', 3, '4'], ['a', 1, '1']]);
});
