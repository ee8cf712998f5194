// What the palette offers for what was typed. The best match first: the beginning of a name, then
// of a word in it, then letters in order. A search that matches no place is offered as one of logs.
import { traceId } from './query';

export interface Choice {
  name: string;
  hint: string;
  to: string;
}

interface PageName {
  name: string;
  path: string;
  hint: string;
}

const SHOWN = 12;

export function choices(typed: string, pages: PageName[], services: string[]): Choice[] {
  const text = typed.trim().toLowerCase();
  const trace = traceId(text);
  if (trace !== undefined) {
    return [
      { name: `Trace ${trace.slice(0, 8)}…`, hint: 'Open the trace', to: `/traces/${trace}` },
      { name: `Logs of trace ${trace.slice(0, 8)}…`, hint: 'Search the logs', to: `/logs?q=trace:${trace}` },
    ];
  }
  const all: Choice[] = [
    ...pages.map((page) => ({ name: page.name, hint: page.hint, to: page.path })),
    ...services.map((name) => ({ name, hint: 'Service', to: `/services/${name}` })),
    ...services.map((name) => ({ name: `${name} logs`, hint: 'Its lines', to: `/logs?q=service:${name}` })),
    ...services.map((name) => ({ name: `${name} traces`, hint: 'Its requests', to: `/traces?q=service:${name}` })),
  ];
  if (text === '') return all.slice(0, pages.length + services.length);
  const ranked = all
    .map((choice, at) => ({ choice, at, rank: rank(choice.name.toLowerCase(), text) }))
    .filter((own) => own.rank < 4)
    .sort((a, b) => a.rank - b.rank || a.at - b.at)
    .slice(0, SHOWN)
    .map((own) => own.choice);
  return [...ranked, { name: `Search logs for “${typed.trim()}”`, hint: 'Logs', to: `/logs?q=${encodeURIComponent(typed.trim())}` }];
}

function rank(name: string, text: string): number {
  if (name.startsWith(text)) return 0;
  if (name.includes(` ${text}`)) return 1;
  if (name.includes(text)) return 2;
  let at = 0;
  for (const letter of text) {
    at = name.indexOf(letter, at) + 1;
    if (at === 0) return 4;
  }
  return 3;
}
