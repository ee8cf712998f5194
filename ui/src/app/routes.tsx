// From an address to a page. Only the overview comes with the first load; the others are fetched
// when they are first seen.
import { lazy, type ReactNode } from 'react';
import { Empty } from '../ui/Notes';
import { Overview } from '../pages/overview/Overview';
import { PAGES } from './pages';
import { Link } from './router';

const Logs = lazy(() => import('../pages/logs/Logs'));
const Traces = lazy(() => import('../pages/traces/Traces'));
const Trace = lazy(() => import('../pages/traces/Trace'));
const Service = lazy(() => import('../pages/service/Service'));
const ServiceMap = lazy(() => import('../pages/map/Map'));
const Metrics = lazy(() => import('../pages/metrics/Metrics'));
const Events = lazy(() => import('../pages/events/Events'));
const Timeline = lazy(() => import('../pages/timeline/Timeline'));
const Alerts = lazy(() => import('../pages/alerts/Alerts'));
const Costs = lazy(() => import('../pages/costs/Costs'));
const Gateway = lazy(() => import('../pages/gateway/Gateway'));
const Access = lazy(() => import('../pages/access/Access'));
const Compare = lazy(() => import('../pages/traces/Compare'));

type Route = [pattern: RegExp, page: (part: string, rest: string) => ReactNode];

const ROUTES: Route[] = [
  [/^\/$/, () => <Overview />],
  [/^\/services\/([^/]+)(?:\/(\w+))?$/, (name, part) => <Service key={name} name={name} part={part} />],
  [/^\/map$/, () => <ServiceMap />],
  [/^\/metrics$/, () => <Metrics />],
  [/^\/events(?:\/(\w+)(?:\/([^/]+))?)?$/, (part, rest) => <Events part={part} rest={rest} />],
  [/^\/timeline$/, () => <Timeline />],
  [/^\/alerts$/, () => <Alerts />],
  [/^\/costs$/, () => <Costs />],
  [/^\/gateway$/, () => <Gateway />],
  [/^\/access(?:\/(\w+))?$/, (part) => <Access part={part} />],
  [/^\/logs$/, () => <Logs />],
  [/^\/traces$/, () => <Traces />],
  [/^\/traces\/compare$/, () => <Compare />],
  [/^\/traces\/([0-9a-f]{32})$/, (trace) => <Trace key={trace} id={trace} />],
];

/** A part of an address; as it is, if somebody has mistyped its escapes. */
function decoded(part: string | undefined): string {
  try {
    return decodeURIComponent(part ?? '');
  } catch {
    return part ?? '';
  }
}

/** Pages that use the height of the window and scroll within. */
const FILLING = /^\/(logs|timeline)$|^\/traces\/[0-9a-f]{32}$/;

export function isFilling(path: string): boolean {
  return FILLING.test(path);
}

export function routed(path: string): ReactNode {
  for (const [pattern, page] of ROUTES) {
    const match = pattern.exec(path);
    if (match) return page(decoded(match[1]), decoded(match[2]));
  }
  return (
    <Empty page title="There is no such page">
      <p>
        <code>{path}</code> leads nowhere.
      </p>
      <Link to="/" className="btn">
        To the overview
      </Link>
    </Empty>
  );
}

export function titleOf(path: string): string {
  const service = /^\/services\/([^/]+)/.exec(path)?.[1];
  if (service !== undefined) return decoded(service);
  const page = PAGES.find((own) => own.path !== '/' && (path === own.path || path.startsWith(`${own.path}/`)));
  return page?.name ?? 'Overview';
}
