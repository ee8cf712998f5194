// Text that others wrote, made harmless: escape sequences go, control and direction marks become
// visible, and what is too long is cut. React escapes HTML; nothing here makes HTML.

const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g;
// Tabs and line ends stay. C0, DEL, C1, and marks that turn the direction of writing or hide.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

export const LINE_MAX = 600;
export const TEXT_MAX = 65_536;

export function inert(text: string): string {
  return text.replace(ESCAPES, '').replace(UNSEEN, (mark) => {
    const code = mark.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    if (code === 0x7f) return '\u2421';
    return `<U+${code.toString(16).toUpperCase().padStart(4, '0')}>`;
  });
}

/** The first line or so, for a row. Cut before anything else looks at a megabyte. */
export function oneLine(text: string, max = LINE_MAX): string {
  const head = text.length > max * 4 ? text.slice(0, max * 4) : text;
  const line = inert(head).replace(/\s*\n\s*/g, ' ⏎ ').trim();
  return line.length > max || head.length < text.length ? `${line.slice(0, max)}…` : line;
}

export interface Cut {
  text: string;
  left: number;
}

/** As much as a page can show, and how many characters it left out. */
export function cut(text: string, max = TEXT_MAX): Cut {
  return text.length <= max ? { text: inert(text), left: 0 } : { text: inert(text.slice(0, max)), left: text.length - max };
}

/** An attribute's value as text. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return value;
  return value === undefined ? '' : JSON.stringify(value);
}

export interface Piece {
  text: string;
  hit: boolean;
}

/** The text in pieces, those that were searched for marked. */
export function marked(text: string, words: string[]): Piece[] {
  const wanted = words.filter((word) => word.length > 1).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  if (wanted.length === 0) return [{ text, hit: false }];
  const parts = text.split(new RegExp(`(${wanted.join('|')})`, 'gi'));
  return parts.map((part, at) => ({ text: part, hit: at % 2 === 1 })).filter((piece) => piece.text !== '');
}

/** The free words of a search: not `key:value`, not what is excluded, no operators. */
export function wordsOf(query: string): string[] {
  const found: string[] = [];
  for (const match of query.matchAll(/(-?)(?:"([^"]+)"|([^\s()"]+))/g)) {
    const [, minus, quoted, bare] = match;
    if (minus === '-' || bare?.startsWith('-')) continue;
    if (quoted !== undefined) found.push(quoted);
    else if (bare !== undefined && !/[:/]/.test(bare) && !/^(AND|OR|NOT)$/.test(bare) && !/^\w+[<>]=?/.test(bare)) found.push(bare);
  }
  return found;
}

/** A value as it stands in a query: quoted where it must be. */
export function quoted(value: string): string {
  return /^[\w.\-@]+$/.test(value) ? value : `"${value.replace(/"/g, '')}"`;
}
