// Lines of JSON, and lines that only look like it.
import { expect, test } from 'vitest';
import { inShort, told } from './line';

test('a JSON line says its message, and the rest beside it', () => {
  const line = told('{"level":"info","msg":"GET /user","trace_id":"ab","status":200,"who":{"id":1}}');
  expect(line).toEqual({ text: 'GET /user', more: { status: 200, who: { id: 1 } } });
  expect(inShort(line?.more ?? {})).toBe('status=200 who={"id":1}');
});

test('whatever else stays as it is', () => {
  for (const own of ['', 'plain', '{broken}', '{}', '{"message":7}', '[1]', `{"message":"${'x'.repeat(20_000)}"}`]) expect(told(own)).toBeUndefined();
});
