// The map, series over time, costs and objectives, made from a few curves per service.
import { BROKEN_SINCE, SERVICES, time } from './world.mjs';

const CALLS = [
  ['edge', 'accounts', 36], ['edge', 'catalog', 190], ['edge', 'notices', 55], ['edge', 'orders', 24], ['edge', 'points', 4], ['edge', 'legacy', 1.4], ['edge', 'weather', 0.1],
  ['orders', 'accounts', 2.4], ['orders', 'catalog', 22], ['orders', 'payments', 21], ['notices', 'weather', 0.2],
];
const NAMES = [
  ['atoll_route_requests_total', 'counter', 'requests', 'Requests by the class of their status.', ['service', 'path', 'class']],
  ['atoll_route_errors_total', 'counter', 'requests', "Requests that did not get a service's complete answer.", ['service', 'path', 'reason']],
  ['atoll_route_duration_seconds', 'histogram', 'seconds', 'Seconds from the head of the request to the last byte of the answer.', ['service', 'path']],
  ['atoll_call_requests_total', 'counter', 'requests', 'Calls between services by the class of their status.', ['caller', 'callee', 'class']],
  ['atoll_call_duration_seconds', 'histogram', 'seconds', 'Seconds of calls between services.', ['caller', 'callee']],
  ['atoll_instance_cpu_seconds_total', 'counter', 'seconds', 'Processor time used.', ['service', 'instance']],
  ['atoll_instance_memory_bytes', 'gauge', 'bytes', 'Memory in use.', ['service', 'instance']],
  ['atoll_reader_lag', 'gauge', 'records', 'Records that wait.', ['reader', 'topic']],
  ['orders_value_euro', 'histogram', 'euro', 'The value of an order, as the service tells it.', ['country']],
];

export const names = () => NAMES.map(([name, kind, unit, help, labels]) => ({ name, kind, unit, help, labels }));

const broken = (service, at, now) => (['orders', 'payments'].includes(service) && at > now - BROKEN_SINCE ? 1 : 0);
const noise = (seed, at) => Math.sin(seed * 12.9 + at / 70_000) * 0.1 + Math.sin(seed * 7.7 + at / 311_000) * 0.16 + ((Math.sin(seed * 99 + at * 0.37) * 43_758.5) % 1) * 0.06;

function labelsOf(name) {
  const edge = CALLS.filter(([from]) => from === 'edge');
  const inner = CALLS.filter(([from]) => from !== 'edge');
  if (name.startsWith('atoll_route')) {
    const classes = name.endsWith('requests_total') ? ['2xx', '5xx'] : [undefined];
    return edge.flatMap(([, service, rate]) => classes.map((own) => [{ service, path: `/${service}`, ...(own ? { class: own } : {}) }, service, own === '5xx' ? rate * 0.001 : rate]));
  }
  if (name.startsWith('atoll_call')) return inner.map(([caller, callee, rate]) => [{ caller, callee, ...(name.endsWith('requests_total') ? { class: '2xx' } : {}) }, callee, rate]);
  if (name.startsWith('atoll_instance')) return SERVICES.flatMap(([service, , , wanted, revision, rate]) => Array.from({ length: wanted }, (_, at) => [{ service, instance: `${service}-r${revision}-${at + 1}` }, service, rate]));
  if (name === 'atoll_reader_lag') return [[{ reader: 'points', topic: 'orders.placed' }, 'orders', 3], [{ reader: 'orders', topic: 'payments.settled' }, 'payments', 40]];
  return ['DE', 'FR', 'PT'].map((country, at) => [{ country }, 'catalog', 20 + at * 17]);
}

function value(name, stat, service, rate, at, now, seed, labels) {
  const ill = broken(service, at, now);
  const wobble = 1 + noise(seed, at);
  if (name === 'atoll_instance_memory_bytes') return (40 + rate / 4) * 1_048_576 * (1 + (at % 3_600_000) / 20_000_000) * (1 + noise(seed, at) * 0.1);
  if (name === 'atoll_instance_cpu_seconds_total') return (0.02 + rate / 900) * wobble * (1 + ill);
  if (name === 'atoll_reader_lag') return ill ? rate * (1 + (at - now + BROKEN_SINCE) / 20_000) : Math.max(0, noise(seed, at) * 4);
  if (name.includes('duration')) {
    const base = (SERVICES.find(([own]) => own === service)?.[6] ?? 10) / (ill ? 1 : ['orders', 'payments'].includes(service) ? 18 : 1) / 1000;
    return base * { p50: 0.2, p95: 0.62, p99: 1 }[stat] * wobble;
  }
  if (labels.class === '5xx' || name.includes('errors')) return ill ? rate * (name.includes('errors') ? 0.2 : 180) * wobble : rate * 0.001;
  return rate * wobble * (ill ? 0.82 : 1);
}

export function series({ world, query }) {
  const name = query.get('name');
  const until = Date.parse(query.get('until') ?? time(Date.now()));
  const since = Date.parse(query.get('since') ?? time(until - 3_600_000));
  const step = Number(query.get('step_us') ?? (until - since) * 10) / 1000;
  const stat = query.get('stat') ?? 'rate';
  const match = (query.get('match') ?? '').split(',').filter(Boolean).map((own) => own.split(/:(.*)/s));
  if (!NAMES.some(([own]) => own === name)) throw Object.assign(new Error(`there is no metric '${name}'`), { status: 404 });
  const found = labelsOf(name).filter(([labels]) => match.every(([key, wanted]) => labels[key] === wanted));
  const first = Math.ceil(since / step) * step;
  return {
    step_us: step * 1000,
    left_out: 0,
    series: found.map(([labels, service, rate], seed) => {
      const points = [];
      for (let at = first; at <= until; at += step) points.push([at * 1000, value(name, stat, service, rate, at, world.now, seed + name.length, labels)]);
      return { labels, points, exemplars: exemplars(world, name, service, since, until) };
    }),
  };
}

function exemplars(world, name, service, since, until) {
  if (!name.includes('duration')) return [];
  const own = world.traces.filter((trace) => trace.services.includes(service) && Date.parse(trace.start) > since && Date.parse(trace.start) < until);
  return own.filter((_, at) => at % Math.ceil(own.length / 8) === 0).map((trace) => ({ time: trace.start, value: trace.duration_us / 1e6, trace: trace.trace }));
}

export function map({ world }) {
  const load = (service, rate) => {
    const [, , , , , , p99 = 8] = SERVICES.find(([own]) => own === service) ?? [];
    const share = service === 'payments' ? 0.31 : service === 'orders' ? 0.18 : 0;
    return { rate, error_rate: rate * share, p50_us: Math.round(p99 * 180), p95_us: Math.round(p99 * 620), p99_us: Math.round(p99 * 1000) };
  };
  const edge = (from, to, kind, rate) => ({ from, to, kind, ...load(to, rate) });
  return {
    nodes: [
      { name: 'edge', kind: 'edge', state: null, ...load('edge', 310), error_rate: 4.3 },
      ...world.services.map((own) => ({ name: own.name, kind: 'service', state: own.state, ...load(own.name, own.requests_per_second) })),
      ...['orders.placed', 'orders.cancelled', 'payments.settled'].map((name) => ({ name, kind: 'topic', state: null, ...load(name, 8), p50_us: 0, p95_us: 0, p99_us: 0 })),
    ],
    edges: [
      ...CALLS.map(([from, to, rate]) => edge(from, to, 'http', rate)),
      edge('orders', 'orders.placed', 'event', 8.6), edge('orders', 'orders.cancelled', 'event', 0.4), edge('payments', 'payments.settled', 'event', 7.9),
      edge('orders.placed', 'points', 'event', 8.6), edge('orders.cancelled', 'points', 'event', 0.4), edge('payments.settled', 'orders', 'event', 7.9),
    ],
  };
}

export function routes({ query }) {
  const wanted = SERVICES.filter(([name]) => !query.get('service') || query.get('service') === name);
  return wanted.flatMap(([service, , , , , rate, p99, own]) =>
    own.map((route, at) => ({ service, route, rate: rate / (at + 1), error_rate: service === 'payments' ? rate * 0.31 : 0, p50_us: Math.round(p99 * 180), p95_us: Math.round(p99 * 620), p99_us: Math.round(p99 * 1000) })),
  );
}

export function costs({ world }) {
  const use = (at, weight) => ({ cpu_seconds: weight * 8.7 + at, memory_byte_seconds: weight * 9.1e9, bytes: Math.round(weight * 4.1e6) });
  return {
    services: SERVICES.map(([name, , , wanted, , rate], at) => ({ name, memory_byte_seconds: wanted * 90e6 * 3600, ...use(at, rate) })),
    routes: SERVICES.flatMap(([service, , , , , rate, , routes], at) => routes.map((route, index) => ({ service, route, requests: Math.round((rate * 3600) / (index + 1)), ...use(at, rate / (index + 1)) }))),
    callers: CALLS.map(([caller, callee, rate], at) => ({ caller, callee, requests: Math.round(rate * 3600), ...use(at, rate) })),
    chatty: [{ caller: 'orders', callee: 'catalog', calls_per_request: 23.4, trace: world.traces[0].trace }],
  };
}

export function objectives() {
  return [
    { service: 'accounts', kind: 'availability', target: '99.9%', window: '30d', budget_left: 0.94, burn_1h: 0.1, burn_6h: 0.2 },
    { service: 'catalog', kind: 'latency', target: '99% within 50ms', window: '30d', budget_left: 0.81, burn_1h: 0.4, burn_6h: 0.5 },
    { service: 'orders', kind: 'availability', target: '99.9%', window: '30d', budget_left: 0.12, burn_1h: 41, burn_6h: 7.2 },
    { service: 'orders', kind: 'latency', target: '99% within 800ms', window: '30d', budget_left: -0.38, burn_1h: 22, burn_6h: 4 },
    { service: 'legacy', kind: 'latency', target: '99% within 300ms', window: '7d', budget_left: 0.55, burn_1h: 1.4, burn_6h: 0.9 },
  ];
}
