import { describe, expect, it } from 'vitest';
import type { ServiceView } from './types';
import { at, fill, type AnswerOf } from './paths';

describe('addresses', () => {
  it('take what is given into the path, and the rest behind it', () => {
    expect(at('/v1/services')).toBe('/v1/services');
    expect(at('/v1/services/{service}/history', { service: 'a/b c', limit: 5 })).toBe('/v1/services/a%2Fb%20c/history?limit=5');
    expect(at('/v1/traces', { q: 'a b', since: undefined, before: null, until: '' })).toBe('/v1/traces?q=a+b');
    expect(fill('/v1/readers/{service}/{topic}/replay', { topic: 'a.b', service: 'c' })).toBe('/v1/readers/c/a.b/replay');
  });

  it('are held against the document', () => {
    // Each of these lines is a mistake that the compiler sees: without it, tsc fails here.
    const mistakes = () => {
      // @ts-expect-error There is no such path.
      at('/v1/servicez');
      // @ts-expect-error It is not got.
      at('/v1/cache/purge');
      // @ts-expect-error A part of the path is missing.
      at('/v1/traces/{trace}');
      // @ts-expect-error A parameter is unknown.
      at('/v1/traces', { q: '', sort: 'time' });
      const more = { q: '', sort: 'time' };
      // @ts-expect-error And also where it is no literal.
      at('/v1/traces', { ...more, limit: 1 });
      // @ts-expect-error A word is none of those that are known.
      at('/v1/jobs', { state: 'lost' });
      // @ts-expect-error An answer has another form.
      const wrong: AnswerOf<'GET', '/v1/services'> = [{ name: 'orders' }];
      return wrong;
    };
    const right = (found: AnswerOf<'GET', '/v1/services'>): ServiceView[] => found;
    expect([mistakes, right]).toHaveLength(2);
  });
});
