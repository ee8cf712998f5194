// A log line that is a JSON object says what it has to say in one of its members; the others are
// its attributes. What the row has in columns of its own is not said twice.

export interface Told {
  text: string;
  more: Record<string, unknown>;
}

/** Longer ones are shown as they are: reading them would hold up a list of thousands. */
const LONGEST = 16_384;
const TEXTS = ['message', 'msg'];
const COLUMNS = new Set(['level', 'severity', 'time', 'timestamp', 'ts', 'trace_id', 'span_id']);

export function told(message: string): Told | undefined {
  if (message.length > LONGEST || !message.startsWith('{') || !message.endsWith('}')) return undefined;
  let parsed: unknown;
  try {
    parsed = JSON.parse(message);
  } catch {
    return undefined;
  }
  const members = Object.entries(parsed as Record<string, unknown>);
  const text = members.find(([key, value]) => TEXTS.includes(key) && typeof value === 'string');
  if (text === undefined) return undefined;
  return { text: text[1] as string, more: Object.fromEntries(members.filter(([key]) => key !== text[0] && !COLUMNS.has(key))) };
}

/** `status=200 ms=12`: what a row has room for. */
export function inShort(more: Record<string, unknown>): string {
  return Object.entries(more)
    .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(' ');
}
