// What the platform did: a deployment of payments and what followed from it, and quiet days before.
import { SERVICES, time } from './world.mjs';

const MINUTE = 60_000;

export function makeTimeline(rand, now, traces) {
  const failed = traces.find((own) => own.errors > 0)?.trace ?? null;
  const at = (minutes, service, kind, level, message, more = {}) => ({ time: time(now - minutes * MINUTE), service, instance: null, revision: null, kind, level, message, trace: null, ...more });
  const story = [
    at(13.2, 'payments', 'deploy', 'info', 'grace deploys revision 9: bank client 2.4: shorter timeouts', { revision: 9 }),
    at(13.1, 'payments', 'start', 'info', 'payments-r9-1 starts', { instance: 'payments-r9-1', revision: 9 }),
    at(13.0, 'payments', 'ready', 'info', 'payments-r9-1 is ready after 410 ms', { instance: 'payments-r9-1', revision: 9 }),
    at(12.9, 'payments', 'ready', 'info', 'payments-r9-2 is ready after 430 ms', { instance: 'payments-r9-2', revision: 9 }),
    at(12.8, 'payments', 'deploy', 'info', 'revision 9 serves; revision 8 has gone', { revision: 9 }),
    at(11.6, 'payments', 'ejection', 'warn', 'payments-r9-2 gets no requests: 5 failures in a row', { instance: 'payments-r9-2', revision: 9, trace: failed }),
    at(11.2, 'orders', 'breaker', 'error', 'the breaker orders → payments has opened: 58 % of the last 200 calls failed', { trace: failed }),
    at(11.0, 'orders', 'alert', 'error', 'availability (page) firing: the budget burns 41.0 times too fast: 1804 of 44000 requests failed in 1h, 1790 of 9900 in 5m'),
    at(10.0, 'orders', 'alert', 'error', 'latency (page, silenced) firing: the budget burns 22.0 times too fast: 9680 of 44000 requests took longer than 800ms in 1h, 3100 of 9900 in 5m'),
    at(9.1, 'payments', 'exit', 'error', 'payments-r9-2 has ended with code 101', { instance: 'payments-r9-2', revision: 9 }),
    at(9.0, 'payments', 'start', 'info', 'payments-r9-2 starts again (2nd time)', { instance: 'payments-r9-2', revision: 9 }),
    at(6.5, 'orders', 'limit', 'warn', 'the adaptive limit of payments has fallen from 64 to 11 requests'),
    at(4.2, 'payments', 'exit', 'error', 'payments-r9-2 has ended with code 101 (7th time): crash loop', { instance: 'payments-r9-2', revision: 9 }),
    at(1.5, 'legacy', 'alert', 'warn', 'latency (ticket) firing: the budget burns 3.1 times too fast: 310 of 10000 requests took longer than 300ms in 1d, 31 of 900 in 2h'),
    at(47, 'catalog', 'scale', 'info', 'ada scales to 2 instances: more instances for the sale'),
    at(52, 'edge', 'config', 'info', 'the configuration was read again: 19 routes'),
  ];
  const kinds = ['deploy', 'start', 'ready', 'scale', 'config', 'other'];
  for (let count = 0; count < 400; count += 1) {
    const [service, , , , revision] = SERVICES[Math.floor(rand() * SERVICES.length)];
    const kind = kinds[Math.floor(rand() * kinds.length)];
    const says = { deploy: 'ci deploys a revision', start: 'an instance starts', ready: 'an instance is ready after 380 ms', scale: 'grace scales to 2 instances', config: 'settings were read again', other: 'its data folder was backed up, 12 MiB' };
    story.push(at(60 + rand() * 10_000, service, kind, 'info', says[kind], { revision }));
  }
  return story.sort((a, b) => (a.time < b.time ? 1 : -1));
}

export function timeline({ world, query }) {
  const since = query.get('since') ?? time(world.now - 60 * MINUTE);
  const until = query.get('until') ?? '9999';
  const wanted = (own) => own.time >= since && own.time <= until && matches(query.get('service'), own.service) && matches(query.get('kind'), own.kind);
  const from = Number(query.get('before') ?? 0);
  const limit = Number(query.get('limit') ?? 200);
  const found = world.timeline.filter(wanted);
  return { events: found.slice(from, from + limit), next: found.length > from + limit ? String(from + limit) : null };
}

function matches(wanted, value) {
  return !wanted || wanted.split(',').includes(value);
}

export function errors({ world, query }) {
  const trace = world.traces.find((own) => own.errors > 0)?.trace ?? null;
  const ago = (minutes) => time(Date.now() - minutes * MINUTE);
  const all = [
    { fingerprint: 'e1', service: 'payments', message: 'bank: connection reset by peer (os error 104)', count: 1841, first: ago(12), last: ago(0.1), trace },
    { fingerprint: 'e2', service: 'orders', message: 'payment failed: payments answered 504 after 5000 ms', count: 1204, first: ago(11.8), last: ago(0.2), trace },
    { fingerprint: 'e3', service: 'orders', message: 'order cannot be placed: the breaker to payments is open', count: 377, first: ago(11), last: ago(0.4), trace },
    { fingerprint: 'e4', service: 'payments', message: "thread 'main' panicked at src/bank.rs:88: pool is empty", count: 7, first: ago(9.1), last: ago(0.7), trace: null },
    { fingerprint: 'e5', service: 'points', message: '<script>document.title="owned"</script> is no customer', count: 3, first: ago(50), last: ago(31), trace: null },
  ];
  return all.filter((own) => matches(query.get('service'), own.service));
}

export function why(context) {
  const { world, parts } = context;
  if (/^[0-9a-f]{32}$/.test(parts[0])) {
    return { summary: 'The bank reset the connection; payments answered 504 to all attempts of orders. payments was deployed 66 seconds before such failures began.', errors: [], changes: [] };
  }
  const isIll = ['payments', 'orders'].includes(parts[0]);
  if (!isIll) return { summary: 'Nothing fails, and nothing has changed in the last hour.', errors: [], changes: [] };
  return {
    summary: parts[0] === 'payments'
      ? 'Since 12 minutes 31 % of requests fail: the bank resets connections. It began 66 seconds after revision 9 was deployed by grace (“bank client 2.4: shorter timeouts”).'
      : 'Since 11 minutes 18 % of requests fail, all of them at the call of payments, whose revision 9 was deployed 66 seconds before.',
    errors: errors({ ...context, query: new URLSearchParams({ service: parts[0] }) }),
    changes: world.timeline.filter((own) => Date.parse(own.time) > world.now - 15 * MINUTE),
  };
}
