// Two traces beside each other: spans of the same service and name under the same ones belong
// together; calls repeated in a loop are added up, with their number. What only the second trace
// has stands where it happened, not at the end.
import type { SpanView, TraceView } from '../api/types';
import { waterfall } from './trace';

interface Side {
  calls: number;
  us: number;
  errors: number;
}

export interface Compared {
  key: string;
  service: string;
  name: string;
  depth: number;
  a: Side;
  b: Side;
}

interface Node {
  row: Compared;
  children: Node[];
}

const none: Side = { calls: 0, us: 0, errors: 0 };

export function compare(a: TraceView, b: TraceView): Compared[] {
  const top: Node[] = [];
  gather(a, 'a', top);
  gather(b, 'b', top);
  return top.flatMap(flat);
}

function flat(node: Node): Compared[] {
  return [node.row, ...node.children.flatMap(flat)];
}

function gather(trace: TraceView, side: 'a' | 'b', top: Node[]): void {
  /** The nodes from the root to the span before; and after which of its siblings a new one goes. */
  const path: Node[] = [];
  const lastOf = new Map<Node[], number>();
  for (const row of waterfall(trace, new Set(), false).rows) {
    if (row.kind !== 'span') continue;
    path.length = Math.min(path.length, row.depth);
    const siblings = path.at(-1)?.children ?? top;
    const key = `${path.at(-1)?.row.key ?? ''}/${row.span.service} ${row.span.name}`;
    let place = siblings.findIndex((own) => own.row.key === key);
    if (place === -1) {
      place = (lastOf.get(siblings) ?? -1) + 1;
      siblings.splice(place, 0, { row: { key, service: row.span.service, name: row.span.name, depth: row.depth, a: none, b: none }, children: [] });
    }
    lastOf.set(siblings, place);
    const node = siblings[place];
    if (!node) continue;
    node.row = { ...node.row, [side]: added(node.row[side], row.span) };
    path.push(node);
  }
}

function added(side: Side, span: SpanView): Side {
  return { calls: side.calls + 1, us: side.us + span.duration_us, errors: side.errors + (span.status === 'error' ? 1 : 0) };
}
