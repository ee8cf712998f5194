// The layout of the service map: layers from the edge inwards (dagre), left to right, closer on a
// narrow screen; and the look of edges: as thick as their traffic's magnitude.
import { Graph, layout } from '@dagrejs/dagre';
import type { MapEdge, MapNode, MapView } from '../api/types';

export const NODE = { width: 186, height: 58 };
const MARGIN = 16;
const LABEL = { width: 60, height: 13 };

export interface Placed {
  node: MapNode;
  x: number;
  y: number;
}

export interface Drawn {
  edge: MapEdge;
  path: string;
  label: { x: number; y: number };
}

export interface Picture {
  nodes: Placed[];
  edges: Drawn[];
  width: number;
  height: number;
}

interface Point {
  x: number;
  y: number;
}

export function picture(view: MapView, isNarrow: boolean): Picture {
  const graph = new Graph({ multigraph: true });
  graph.setGraph({ rankdir: 'LR', nodesep: isNarrow ? 16 : 22, ranksep: isNarrow ? 44 : 88, edgesep: 14 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of view.nodes) graph.setNode(node.name, { ...NODE });
  const known = new Set(view.nodes.map((node) => node.name));
  const edges = view.edges.filter((edge) => known.has(edge.from) && known.has(edge.to));
  for (const edge of edges) graph.setEdge(edge.from, edge.to, { weight: edge.kind === 'http' ? 2 : 1 }, edge.kind);
  layout(graph);
  const at = (name: string) => graph.node(name) as Point;
  const lines = edges.map((edge) => {
    const bends = (graph.edge(edge.from, edge.to, edge.kind) as { points: Point[] }).points.slice(1, -1);
    return { edge, points: between(at(edge.from), bends, at(edge.to)) };
  });
  // The layout's own size forgets lines that go around the outermost boxes.
  const corners = view.nodes.flatMap((node) => [-0.5, 0.5].map((half) => ({ x: at(node.name).x + half * NODE.width, y: at(node.name).y + half * NODE.height })));
  const all = [...corners, ...lines.flatMap((own) => own.points)];
  const left = Math.min(...all.map((own) => own.x)) - MARGIN;
  const top = Math.min(...all.map((own) => own.y)) - MARGIN;
  const labels: Point[] = [];
  const moved = (own: Point): Point => ({ x: own.x - left, y: own.y - top });
  return {
    nodes: view.nodes.map((node) => ({ node, x: at(node.name).x - NODE.width / 2 - left, y: at(node.name).y - NODE.height / 2 - top })),
    edges: lines.map(({ edge, points }) => {
      const own = points.map(moved);
      return { edge, path: curve(own), label: free(middle(own), labels) };
    }),
    width: Math.max(0, ...all.map((own) => own.x - left)) + MARGIN,
    height: Math.max(0, ...all.map((own) => own.y - top)) + MARGIN,
  };
}

/** From side to side: out where the reader's eye leaves a box, in where it enters the next. */
function between(from: Point, bends: Point[], to: Point): Point[] {
  const half = (to.x > from.x ? 0.5 : -0.5) * NODE.width;
  // A single bend only holds the place of a label between two neighbors.
  return [{ x: from.x + half, y: from.y }, ...(bends.length > 1 ? bends : []), { x: to.x - half, y: to.y }];
}

function middle(points: Point[]): Point {
  if (points.length % 2 === 1) return points[(points.length - 1) / 2] ?? { x: 0, y: 0 };
  const a = points[points.length / 2 - 1] ?? { x: 0, y: 0 };
  const b = points[points.length / 2] ?? a;
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
}

/** The nearest place below that no label has yet. */
function free(wanted: Point, taken: Point[]): Point {
  const label = { ...wanted };
  while (taken.some((own) => Math.abs(own.x - label.x) < LABEL.width && Math.abs(own.y - label.y) < LABEL.height)) label.y += 4;
  taken.push(label);
  return label;
}

/** A smooth line through the points that leaves and enters each horizontally. */
export function curve(points: Point[]): string {
  const [first, ...rest] = points;
  if (!first || rest.length === 0) return '';
  let path = `M${round(first.x)},${round(first.y)}`;
  let from = first;
  for (const to of rest) {
    const x = round((from.x + to.x) / 2);
    path += `C${x},${round(from.y)} ${x},${round(to.y)} ${round(to.x)},${round(to.y)}`;
    from = to;
  }
  return path;
}

/** 1 px for a trickle, 6 px from a thousand a second. */
export function thickness(rate: number): number {
  return Math.max(1, Math.min(6, 1.2 + 1.6 * Math.log10(Math.max(rate, 0.1) * 2)));
}

export type Health = 'ok' | 'warn' | 'bad' | 'idle';

export function health(load: { rate: number; error_rate: number }, state: string | null = null): Health {
  if (state === 'failed') return 'bad';
  const share = load.rate > 0 ? load.error_rate / load.rate : 0;
  if (share >= 0.05) return 'bad';
  if (share >= 0.01 || state === 'degraded') return 'warn';
  return load.rate > 0 || state === 'ready' ? 'ok' : 'idle';
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
