// Keys and values of records: text, or bytes in base64. And whether a text is JSON, made readable.
import type { Text } from '../api/types';

/** For the eye: bytes are told, not shown. */
export function shownText(text: Text | null): string {
  if (text === null) return '';
  if (typeof text === 'string') return text;
  const length = Math.floor((text.base64.replace(/=+$/, '').length * 3) / 4);
  return `(${length} bytes, base64) ${text.base64}`;
}

/** JSON with line breaks; anything else as it is. Only white space changes: a number of twenty
 * digits, which JavaScript would round, stays what it was. */
export function pretty(text: string): string {
  if (jsonTrouble(text) !== undefined || !/^\s*[[{]/.test(text)) return text;
  let depth = 0;
  let out = '';
  const line = () => `\n${'  '.repeat(depth)}`;
  // Strings, brackets, commas, colons, and whatever else stands between white space.
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g) ?? [];
  tokens.forEach((token, at) => {
    const next = tokens[at + 1];
    if (token === '{' || token === '[') {
      depth += 1;
      out += next === '}' || next === ']' ? token : token + line();
    } else if (token === '}' || token === ']') {
      depth -= 1;
      const before = tokens[at - 1];
      out += before === '{' || before === '[' ? token : line() + token;
    } else if (token === ',') out += token + line();
    else out += token === ':' ? ': ' : token;
  });
  return out;
}

/** Why a text that looks like JSON is none; undefined if it is, or does not look like it. */
export function jsonTrouble(text: string): string | undefined {
  if (!/^\s*[[{"]/.test(text)) return undefined;
  try {
    JSON.parse(text);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
