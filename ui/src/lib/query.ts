// Editing the query of logs and traces by a click: `key:value` terms are added, excluded and taken
// away as text, because the text in the field is the truth that people see and share.
import { quoted } from './text';

function term(key: string, value: string): string {
  return `${key}:${quoted(value)}`;
}

export function hasTerm(query: string, key: string, value: string): boolean {
  return parts(query).includes(term(key, value));
}

/** Adds the term, or takes it away if it is there. */
export function toggled(query: string, key: string, value: string): string {
  const own = term(key, value);
  const all = parts(query);
  if (all.includes(own)) return all.filter((part) => part !== own).join(' ');
  // Two values of one key would find nothing: the new one takes the place.
  return [...all.filter((part) => !part.startsWith(`${key}:`) || key === ''), own].join(' ');
}

export function excluded(query: string, key: string, value: string): string {
  const own = `-${term(key, value)}`;
  const all = parts(query);
  return all.includes(own) ? query : [...all.filter((part) => part !== term(key, value)), own].join(' ');
}

/** The value that a query asks of a key, if it does so plainly. */
export function valueOf(query: string, key: string): string | undefined {
  const found = parts(query).find((part) => part.startsWith(`${key}:`));
  return found?.slice(key.length + 1).replace(/^"|"$/g, '');
}

/** What all must hold of a line, each by itself. Of what has an `OR` that is all of it, in brackets. */
function parts(query: string): string[] {
  const all = pieces(query);
  if (all.includes('OR')) return [`(${all.join(' ')})`];
  const negated = all.map((piece, at) => (all[at - 1] === 'NOT' ? `NOT ${piece}` : piece));
  return negated.filter((piece) => piece !== 'AND' && piece !== 'NOT');
}

/** The text cut at blanks, but for those in quotes, in brackets and in expressions between slashes. */
function pieces(query: string): string[] {
  const found: string[] = [];
  let piece = '';
  let depth = 0;
  for (let at = 0; at < query.length; at += 1) {
    const rest = query.slice(at);
    const whole = /^"(?:\\.|[^"\\])*"?/s.exec(rest) ?? (/^[-(]*$/.test(piece) ? /^\/(?:\\.|[^/\\])+\/(?=[\s)]|$)/s.exec(rest) : null);
    const own = whole?.[0] ?? rest.charAt(0);
    if (depth === 0 && /^\s$/.test(own)) {
      if (piece !== '') found.push(piece);
      piece = '';
      continue;
    }
    if (own === '(') depth += 1;
    if (own === ')') depth = Math.max(0, depth - 1);
    piece += own;
    at += own.length - 1;
  }
  return piece === '' ? found : [...found, piece];
}

/** A trace's id, if the text is one (also within a traceparent). */
export function traceId(text: string): string | undefined {
  const found = /(?:^|[^0-9a-f])([0-9a-f]{32})(?:$|[^0-9a-f])/i.exec(text.trim());
  return found?.[1]?.toLowerCase();
}
