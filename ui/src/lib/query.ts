// Editing the query of logs and traces by a click: `key:value` terms are added, excluded and taken
// away as text, because the text in the field is the truth that people see and share.
import { quoted } from './text';

function term(key: string, value: string): string {
  return `${key}:${quoted(value)}`;
}

export function hasTerm(query: string, key: string, value: string): boolean {
  return tokens(query).includes(term(key, value));
}

/** Adds the term, or takes it away if it is there. */
export function toggled(query: string, key: string, value: string): string {
  const own = term(key, value);
  const parts = tokens(query);
  if (parts.includes(own)) return parts.filter((part) => part !== own).join(' ');
  // Two values of one key would find nothing: the new one takes the place.
  return [...parts.filter((part) => !part.startsWith(`${key}:`) || key === ''), own].join(' ');
}

export function excluded(query: string, key: string, value: string): string {
  const own = `-${term(key, value)}`;
  const parts = tokens(query);
  return parts.includes(own) ? query : [...parts.filter((part) => part !== term(key, value)), own].join(' ');
}

/** The value that a query asks of a key, if it does so plainly. */
export function valueOf(query: string, key: string): string | undefined {
  const found = tokens(query).find((part) => part.startsWith(`${key}:`));
  return found?.slice(key.length + 1).replace(/^"|"$/g, '');
}

function tokens(query: string): string[] {
  return query.match(/(?:[^\s"]*"[^"]*"|[^\s"]+)/g) ?? [];
}

/** A trace's id, if the text is one (also within a traceparent). */
export function traceId(text: string): string | undefined {
  const found = /(?:^|[^0-9a-f])([0-9a-f]{32})(?:$|[^0-9a-f])/i.exec(text.trim());
  return found?.[1]?.toLowerCase();
}
