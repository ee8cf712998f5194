import { expect, test } from 'vitest';
import type { MapNode } from '../api/types';
import { placeOf, titleOf } from './places';

function node(name: string, kind: MapNode['kind']): MapNode {
  return { name, kind, state: null, rate: 0, error_rate: 0, p50_us: 0, p95_us: 0, p99_us: 0 };
}

test('a topic that shares its name with a service has its own page, and is shown by its name', () => {
  const view = { nodes: [node('edge', 'edge'), node('points', 'service'), node('topic:points', 'topic'), node('placed', 'topic')] };
  const shown = view.nodes.map((own) => [titleOf(own.name), placeOf(own.name, view)]);
  expect(shown).toEqual([
    ['edge', '/gateway'],
    ['points', '/services/points'],
    ['points', '/events/topics/points'],
    ['placed', '/events/topics/placed'],
  ]);
});
