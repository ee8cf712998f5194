// The addresses that are looked at: all of them on the mock; on a real node those that need no
// particular data.

export function views(opened) {
  const general = {
    overview: '/', map: '/map', logs: '/logs', traces: '/traces', metrics: '/metrics', topics: '/events', readers: '/events/readers', dead: '/events/dead', jobs: '/events/jobs',
    outboxes: '/events/outboxes', timeline: '/timeline', alerts: '/alerts', costs: '/costs', gateway: '/gateway', tokens: '/access', audit: '/access/audit', nowhere: '/nowhere',
  };
  if (!opened.mock) return general;
  const { traces } = opened.mock.world;
  const trace = traces.find((own) => own.errors > 3 && own.spans.length > 25);
  const [a, b] = traces.filter((own) => own.root_name === 'POST /orders').map((own) => own.trace);
  const span = trace.spans.find((own) => own.events.length > 0);
  return {
    ...general,
    'logs-search': '/logs?q=level%3E%3Dwarn%20payment&range=15m', 'logs-none': '/logs?q=nosuchword', 'logs-mistake': '/logs?q=%22open', 'logs-open': `/logs?q=${encodeURIComponent('megabyte OR')}`.replace('%20OR', ''),
    trace: `/traces/${trace.trace}`, span: `/traces/${trace.trace}?span=${span.span}`, 'trace-gone': `/traces/${'0'.repeat(31)}1`, compare: `/traces/compare?a=${a}&b=${b}`,
    service: '/services/payments', 'service-well': '/services/catalog', 'service-none': '/services/nobody', deploys: '/services/payments/deploys', connections: '/services/orders/connections', limits: '/services/orders/limits',
    'map-chosen': '/map?at=orders', 'metrics-one': '/metrics?name=atoll_route_duration_seconds&by=service', topic: '/events/topics/orders.placed', partitions: '/events/topics/payments.settled?partitions=1',
    'dead-group': '/events/dead?group=g-422', letter: '/events/dead?group=g-422&letter=points%2Forders.placed%2F48',
  };
}
