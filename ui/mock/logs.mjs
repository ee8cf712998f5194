// Ten thousand lines of the shop, some of them hostile, and the search over them.
import { BROKEN_SINCE, SERVICES, hex, time } from './world.mjs';
import { matcher } from './query.mjs';

const SAYS = {
  accounts: [['info', 'POST /login 200'], ['info', 'GET /user 200'], ['warn', 'login failed: wrong password'], ['debug', 'key set served from memory']],
  catalog: [['info', 'GET /catalog/size 200'], ['info', 'GET /catalog/items?page=2 200'], ['debug', 'cache: kept 12 pages']],
  legacy: [['info', 'report monthly: 4,210 rows'], ['warn', 'DeprecationWarning: datetime.utcnow() is deprecated'], [null, '  File "main.py", line 88, in report']],
  notices: [['info', 'GET /notice 200'], ['warn', 'weather took longer than 250 ms, served without']],
  orders: [['info', 'order placed'], ['info', 'GET /orders 200'], ['info', 'payment settled']],
  payments: [['info', 'charge accepted by the bank'], ['debug', 'pool: 3 of 16 connections in use']],
  points: [['info', 'points given'], ['info', 'GET /points/u-81 200']],
  weather: [['info', 'GET /weather 200 after 1500 ms']],
};
const BROKEN = {
  orders: [['error', 'payment failed: payments answered 504 after 5000 ms'], ['warn', 'POST /charges is slow: attempt 2 of 3'], ['error', 'order cannot be placed: the breaker to payments is open']],
  payments: [['error', 'bank: connection reset by peer (os error 104)'], ['error', 'bank: timed out after 5000 ms'], ['warn', 'pool: 16 of 16 connections in use, 41 wait'], ['fatal', "thread 'main' panicked at src/bank.rs:88: pool is empty"]],
};
const HOSTILE = [
  ['error', '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script> in the basket of u-13'],
  ['info', '\u001b[2J\u001b[1;31mALERT\u001b[0m \u001b]0;owned\u0007 user agent with \u202Eesrever\u202C text and a bell \u0007'],
  ['warn', `a line of a megabyte: ${'x9'.repeat(524_288)}`],
];
const WEIGHTS = [['catalog', 42], ['notices', 12], ['accounts', 11], ['orders', 14], ['payments', 12], ['points', 5], ['legacy', 2], ['weather', 2]];

function pick(rand, of) {
  return of[Math.floor(rand() * of.length)];
}

function someService(rand) {
  let left = rand() * WEIGHTS.reduce((sum, [, weight]) => sum + weight, 0);
  for (const [name, weight] of WEIGHTS) {
    left -= weight;
    if (left < 0) return name;
  }
  return 'catalog';
}

function make(rand, at, isBroken, number, traces) {
  const service = someService(rand);
  const [, , , wanted, revision] = SERVICES.find(([name]) => name === service);
  const broken = isBroken && BROKEN[service] && rand() < 0.45;
  const [level, message] = pick(rand, broken ? BROKEN[service] : SAYS[service]);
  const trace = level !== null && rand() < 0.6 ? pick(rand, traces.filter((own) => own.services.includes(service)).slice(0, 60)) : undefined;
  const span = trace?.spans.find((own) => own.service === service);
  return {
    number, time: time(at), service, instance: `${service}-r${revision}-${1 + Math.floor(rand() * wanted)}`, revision,
    stream: level === null ? 'stderr' : 'stdout', level, trace: trace?.trace ?? null, span: span?.span ?? null, message,
    attributes: level === null ? {} : { user: `u-${Math.floor(rand() * 90)}`, status: broken ? 504 : 200, duration_ms: Math.round((broken ? 5000 : 12) * (0.5 + rand()) * 10) / 10, ...(service === 'orders' ? { order: hex(rand, 8) } : {}) },
  };
}

/** Oldest first. */
export function makeLogs(rand, now, traces) {
  const lines = [];
  const total = 10_000;
  let at = now - 3_600_000;
  for (let number = 1; number <= total; number += 1) {
    const isBroken = at > now - BROKEN_SINCE;
    at += ((3_600_000 / total) * 2 * rand()) * (isBroken ? 0.72 : 1.07);
    lines.push(make(rand, Math.min(at, now), isBroken, number, traces));
  }
  for (const [at, [level, message]] of HOSTILE.entries()) {
    const line = lines[lines.length - 8 - at * 5];
    Object.assign(line, { level, message, attributes: { ...line.attributes, '<b>key</b>': '<i>value</i>' } });
  }
  for (const trace of traces.slice(0, 80)) lines.push(...trace.logs.map((own) => ({ ...own })));
  lines.sort((a, b) => (a.time < b.time ? -1 : 1));
  lines.forEach((line, index) => {
    line.number = index + 1;
  });
  return lines;
}

export function nextLog(world) {
  const line = make(world.rand, Date.now(), true, world.logs.length + 1, world.traces);
  world.logs.push(line);
  return line;
}

function found({ world, query }) {
  const matches = matcher(query.get('q') ?? '');
  const since = query.get('since') ?? time(world.now - 3_600_000);
  const until = query.get('until') ?? '9999';
  return world.logs.filter((line) => line.time >= since && line.time <= until && matches(line));
}

export function search(context) {
  const { query, world } = context;
  const begun = performance.now();
  const limit = Number(query.get('limit') ?? 100);
  const before = Number(query.get('before') ?? Infinity);
  const all = found(context).filter((line) => line.number < before).reverse();
  const records = all.slice(0, limit);
  return { records, next: all.length > limit ? String(records.at(-1).number) : null, scanned: world.logs.length, took_us: Math.round((performance.now() - begun) * 1000) };
}

export function histogram(context) {
  const { query, world } = context;
  const since = Date.parse(query.get('since') ?? time(world.now - 3_600_000));
  const until = Date.parse(query.get('until') ?? time(Date.now()));
  const count = Number(query.get('buckets') ?? 60);
  const step = (until - since) / count;
  const buckets = Array.from({ length: count }, (_, at) => ({ time: time(since + at * step), total: 0, warn: 0, error: 0 }));
  for (const line of found(context)) {
    const own = buckets[Math.min(count - 1, Math.floor((Date.parse(line.time) - since) / step))];
    if (!own) continue;
    own.total += 1;
    if (line.level === 'warn') own.warn += 1;
    if (line.level === 'error' || line.level === 'fatal') own.error += 1;
  }
  return { step_us: Math.round(step * 1000), buckets };
}

export function facets(context) {
  const lines = found(context);
  const by = (key) => {
    const counts = new Map();
    for (const line of lines) if (line[key] !== null) counts.set(line[key], (counts.get(line[key]) ?? 0) + 1);
    return [...counts].map(([value, count]) => ({ value, count })).sort((a, b) => b.count - a.count);
  };
  return { service: by('service'), level: by('level'), instance: by('instance') };
}

export function around({ world, query }) {
  const number = Number(query.get('number'));
  const line = world.logs.find((own) => own.number === number);
  const own = world.logs.filter((other) => other.instance === line?.instance);
  const at = own.findIndex((other) => other.number === number);
  return { records: own.slice(Math.max(0, at - Number(query.get('before') ?? 20)), at + 1 + Number(query.get('after') ?? 20)) };
}
