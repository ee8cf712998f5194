// A hue for each service, the same everywhere: by its place among the names of all, so that no two
// of the first seven share one. The edge is gray. A name that nobody told of gets one by its letters.

const HUES = 7;
const GRAY = 7;
let known: string[] = [];

/** Tells the names of all services. */
export function knowServices(names: string[]): void {
  known = [...names].sort();
}

/** The name of a color variable. */
export function hueOf(service: string): string {
  if (service === 'edge') return `--hue-${GRAY}`;
  const place = known.indexOf(service);
  if (place >= 0) return `--hue-${place % HUES}`;
  let hash = 7;
  for (const letter of service) hash = (hash * 31 + letter.charCodeAt(0)) % 9973;
  return `--hue-${hash % HUES}`;
}
