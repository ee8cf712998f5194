// Names on the map: how they are shown, and where they are looked at.
import type { MapView } from '../api/types';

/** A topic that is called as a service is has `topic:` before its name, so that they stay apart. */
const TOPIC = 'topic:';

/** As people know it. */
export function titleOf(name: string): string {
  return name.startsWith(TOPIC) ? name.slice(TOPIC.length) : name;
}

/** The page of a node. */
export function placeOf(name: string, view: Pick<MapView, 'nodes'>): string {
  const kind = view.nodes.find((own) => own.name === name)?.kind;
  if (kind === 'topic' || name.startsWith(TOPIC)) return `/events/topics/${encodeURIComponent(titleOf(name))}`;
  return kind === 'edge' ? '/gateway' : `/services/${encodeURIComponent(name)}`;
}
