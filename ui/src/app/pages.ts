// The pages: their names, addresses and keys, and the endpoint without which a page is not shown.
import type { Role } from '../api/types';

export interface Page {
  path: string;
  name: string;
  /** After `g`. */
  key: string;
  icon: string;
  /** The path in the OpenAPI document that the page lives from. */
  needs: string;
  role?: Role;
  hint: string;
}

export const PAGES: Page[] = [
  { path: '/', name: 'Overview', key: 'o', icon: 'overview', needs: '/v1/services', hint: 'What is wrong, and all services' },
  { path: '/map', name: 'Map', key: 'm', icon: 'map', needs: '/v1/map', hint: 'Who calls whom, and how it goes' },
  { path: '/logs', name: 'Logs', key: 'l', icon: 'logs', needs: '/v1/logs/search', hint: 'Search and follow' },
  { path: '/traces', name: 'Traces', key: 't', icon: 'traces', needs: '/v1/traces', hint: 'Where the time went' },
  { path: '/metrics', name: 'Metrics', key: 'x', icon: 'metrics', needs: '/v1/metrics/names', hint: 'Any number over time' },
  { path: '/events', name: 'Events', key: 'e', icon: 'events', needs: '/v1/topics', hint: 'Topics, lag, dead letters, jobs' },
  { path: '/timeline', name: 'Timeline', key: 'i', icon: 'timeline', needs: '/v1/timeline', hint: 'What the platform did' },
  { path: '/alerts', name: 'Alerts', key: 'a', icon: 'alerts', needs: '/v1/alerts', hint: 'Objectives and alerts' },
  { path: '/costs', name: 'Costs', key: 'c', icon: 'costs', needs: '/v1/costs', hint: 'Who uses the machine' },
  { path: '/gateway', name: 'Gateway', key: 'w', icon: 'gateway', needs: '/v1/cache', hint: 'Cache, breakers, API keys' },
  { path: '/access', name: 'Access', key: 's', icon: 'access', needs: '/v1/tokens', role: 'admin', hint: 'Tokens and the audit log' },
];
