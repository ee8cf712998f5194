// A trace as a waterfall: spans in the order of a tree, children by time, with what they said in
// between. Clocks of machines differ and parents get lost: a span whose parent is not there is a
// root of its own, a circle is cut, and everything is clamped to the trace's own span.
import { told } from './line';
import type { Attributes, LogView, SpanView, TraceView } from '../api/types';
import { micros } from './format';

export interface SpanRow {
  kind: 'span';
  span: SpanView;
  depth: number;
  /** Microseconds after the trace's begin. */
  at: number;
  children: number;
  collapsed: boolean;
  critical: boolean;
  notes: number[];
}

export interface NoteRow {
  kind: 'log' | 'event';
  key: string;
  depth: number;
  at: number;
  level: string | null;
  service: string;
  text: string;
  attributes: Attributes;
}

export type Row = SpanRow | NoteRow;

export interface Waterfall {
  rows: Row[];
  begin: number;
  length: number;
}

interface Note extends NoteRow {
  span: string;
}

/** Of a request what was asked for: within one trace that tells more than the pattern of its route. */
export function titleOf({ name, caller, attributes }: SpanView): string {
  const method = attributes['http.request.method'];
  const path = attributes['url.path'];
  return caller !== null && typeof method === 'string' && typeof path === 'string' ? `${method} ${path}` : name;
}

export function waterfall(trace: TraceView, collapsed: Set<string>, withNotes: boolean): Waterfall {
  const starts = new Map(trace.spans.map((span) => [span.span, micros(span.start)]));
  const begin = Math.min(...starts.values());
  const end = Math.max(...trace.spans.map((span) => (starts.get(span.span) ?? 0) + span.duration_us));
  const critical = new Set(trace.critical_path);
  const children = childrenOf(trace.spans, starts);
  const notes = notesOf(trace, begin);
  const rows: Row[] = [];
  const seen = new Set<string>();

  const say = (said: Note[], depth: number) => {
    if (withNotes) rows.push(...said.map((note) => ({ ...note, depth })));
  };
  const put = (span: SpanView, depth: number) => {
    if (seen.has(span.span)) return;
    seen.add(span.span);
    const own = children.get(span.span) ?? [];
    const said = notes.get(span.span) ?? [];
    const isClosed = collapsed.has(span.span);
    const at = Math.max(0, (starts.get(span.span) ?? begin) - begin);
    rows.push({ kind: 'span', span, depth, at, children: own.length, collapsed: isClosed, critical: critical.has(span.span), notes: said.map((note) => note.at) });
    if (isClosed) {
      markSeen(own, children, seen);
      return;
    }
    let next = 0;
    for (const child of own) {
      const childAt = (starts.get(child.span) ?? begin) - begin;
      const before = said.findIndex((note, index) => index >= next && note.at > childAt);
      const until = before === -1 ? said.length : before;
      say(said.slice(next, until), depth + 1);
      next = Math.max(next, until);
      put(child, depth + 1);
    }
    say(said.slice(next), depth + 1);
  };
  for (const root of children.get('') ?? []) put(root, 0);
  // What only circles reach.
  for (const span of trace.spans) put(span, 0);
  say(notes.get('') ?? [], 0);
  return { rows, begin, length: Math.max(1, end - begin) };
}

function markSeen(spans: SpanView[], children: Map<string, SpanView[]>, seen: Set<string>): void {
  for (const span of spans) {
    if (seen.has(span.span)) continue;
    seen.add(span.span);
    markSeen(children.get(span.span) ?? [], children, seen);
  }
}

/** Spans by their parent's id, in time; '' has the roots. */
function childrenOf(spans: SpanView[], starts: Map<string, number>): Map<string, SpanView[]> {
  const found = new Map<string, SpanView[]>();
  for (const span of spans) {
    const parent = span.parent !== null && span.parent !== span.span && starts.has(span.parent) ? span.parent : '';
    const own = found.get(parent);
    if (own) own.push(span);
    else found.set(parent, [span]);
  }
  for (const own of found.values()) own.sort((a, b) => (starts.get(a.span) ?? 0) - (starts.get(b.span) ?? 0));
  return found;
}

function notesOf(trace: TraceView, begin: number): Map<string, Note[]> {
  const known = new Set(trace.spans.map((span) => span.span));
  const all: Note[] = [
    ...trace.logs.map((log: LogView): Note => ({
      kind: 'log',
      key: `log-${log.number}`,
      span: log.span !== null && known.has(log.span) ? log.span : '',
      depth: 0,
      at: micros(log.time) - begin,
      level: log.level,
      service: log.service,
      text: told(log.message)?.text ?? log.message,
      attributes: { ...told(log.message)?.more, ...log.attributes },
    })),
    ...trace.spans.flatMap((span) =>
      span.events.map((event, at): Note => ({
        kind: 'event',
        key: `event-${span.span}-${at}`,
        span: span.span,
        depth: 0,
        at: micros(event.time) - begin,
        level: event.name === 'exception' ? 'error' : null,
        service: span.service,
        text: event.name,
        attributes: event.attributes,
      })),
    ),
  ].sort((a, b) => a.at - b.at);
  const found = new Map<string, Note[]>();
  for (const note of all) found.set(note.span, [...(found.get(note.span) ?? []), note]);
  return found;
}

export interface Share {
  service: string;
  us: number;
}

/** To whom the time of the critical path belongs: each moment to the innermost span under way. */
export function criticalShares(trace: TraceView): Share[] {
  const critical = new Set(trace.critical_path);
  const depth = new Map(waterfall(trace, new Set(), false).rows.flatMap((row) => (row.kind === 'span' ? [[row.span.span, row.depth] as const] : [])));
  const spans = trace.spans
    .filter((span) => critical.has(span.span))
    .map((span) => ({ service: span.service, from: micros(span.start), to: micros(span.start) + span.duration_us, depth: depth.get(span.span) ?? 0 }));
  const cuts = [...new Set(spans.flatMap((span) => [span.from, span.to]))].sort((a, b) => a - b);
  const shares = new Map<string, number>();
  cuts.slice(0, -1).forEach((from, at) => {
    const to = cuts[at + 1] ?? from;
    const inner = spans.filter((span) => span.from <= from && span.to >= to).sort((a, b) => b.depth - a.depth)[0];
    if (inner) shares.set(inner.service, (shares.get(inner.service) ?? 0) + to - from);
  });
  return [...shares].map(([service, us]) => ({ service, us })).sort((a, b) => b.us - a.us);
}
