// Traces of the shop: the catalog's are short, orders go through accounts, catalog, payments and
// the bank, and since the bank is broken they are long and fail.
import { BROKEN_SINCE, hex, time } from './world.mjs';
import { matcher } from './query.mjs';

export function makeTraces(rand, now) {
  const traces = [];
  for (let at = 0; at < 900; at += 1) {
    const start = now - Math.pow(rand(), 0.9) * 3_600_000;
    const isBroken = start > now - BROKEN_SINCE;
    const kind = rand();
    traces.push(kind < 0.45 ? catalog(rand, start) : kind < 0.55 ? login(rand, start) : kind < 0.65 ? notice(rand, start) : order(rand, start, isBroken));
  }
  return traces.sort((a, b) => (a.start < b.start ? 1 : -1));
}

function builder(rand, start) {
  const trace = hex(rand, 32);
  const spans = [];
  const logs = [];
  const add = (parent, service, name, kind, from, took, more = {}) => {
    const own = {
      trace, span: hex(rand, 16), parent: parent?.span ?? null, service, instance: `${service}-r1-1`, name, kind, start: time(start + from), duration_us: Math.max(20, Math.round(took * 1000)),
      status: 'unset', status_message: '', caller: parent?.service ?? null, inferred: false, attributes: {}, events: [], links: [], ...more,
    };
    spans.push(own);
    return own;
  };
  const say = (span, at, level, message) => {
    logs.push({ number: 0, time: time(start + at), service: span.service, instance: span.instance, revision: 1, stream: 'stdout', level, trace, span: span.span, message, attributes: { user: 'u-17' } });
  };
  const done = (critical) => {
    const root = spans[0];
    return {
      trace, root_service: root.service, root_name: root.name, start: root.start, duration_us: root.duration_us, services: [...new Set(spans.map((own) => own.service))],
      errors: spans.filter((own) => own.status === 'error').length, spans, logs, critical_path: critical.map((own) => own.span),
    };
  };
  return { add, say, done };
}

function catalog(rand, start) {
  const { add, done } = builder(rand, start);
  const took = 2 + rand() * rand() * 14;
  const root = add(null, 'edge', 'GET /catalog/**', 'server', 0, took + 0.6, { attributes: { 'http.request.method': 'GET', 'http.response.status_code': 200 } });
  const hop = add(root, 'catalog', 'GET /catalog/items', 'server', 0.3, took, { inferred: rand() < 0.3 });
  const read = add(hop, 'catalog', 'read products.json', 'internal', 0.5, took * 0.6);
  add(hop, 'catalog', 'render', 'internal', 0.6 + took * 0.6, took * 0.3);
  add(root, 'edge', 'cache store', 'internal', took + 0.3, 0.2);
  return done([root, hop, read]);
}

function login(rand, start) {
  const { add, say, done } = builder(rand, start);
  const took = 28 + rand() * 20;
  const root = add(null, 'edge', 'POST /login', 'server', 0, took + 1);
  const hop = add(root, 'accounts', 'POST /login', 'server', 0.4, took);
  add(hop, 'accounts', 'SELECT user', 'client', 0.8, 1.1, { attributes: { 'db.system': 'sqlite', 'db.query.text': 'SELECT id, hash FROM users WHERE name = ?' } });
  const hash = add(hop, 'accounts', 'argon2', 'internal', 2, took - 3);
  add(hop, 'accounts', 'sign token', 'internal', took - 0.9, 0.4);
  say(hop, took - 0.5, 'info', 'POST /login 200');
  return done([root, hop, hash]);
}

function notice(rand, start) {
  const { add, say, done } = builder(rand, start);
  const isSlow = rand() < 0.3;
  const took = isSlow ? 252 : 6 + rand() * 10;
  const root = add(null, 'edge', 'GET /notice', 'server', 0, took + 1);
  const hop = add(root, 'notices', 'GET /notice', 'server', 0.4, took);
  const call = add(hop, 'notices', 'GET weather /weather', 'client', 1, took - 2, isSlow ? { status: 'error', status_message: 'no answer within 250 ms', events: [{ time: time(start + 251), name: 'timeout', attributes: { budget_ms: 250 } }] } : {});
  add(call, 'weather', 'GET /weather', 'server', 1.4, isSlow ? 1500 : took - 3, { inferred: true });
  add(hop, 'notices', 'choose a line', 'internal', took - 0.8, 0.3);
  if (isSlow) say(hop, 251, 'warn', 'weather took longer than 250 ms, served without');
  return done([root, hop, call]);
}

function order(rand, start, isBroken) {
  const { add, say, done } = builder(rand, start);
  const items = 2 + Math.floor(rand() * (rand() < 0.12 ? 46 : 9));
  const attempts = isBroken && rand() < 0.6 ? 3 : 1;
  const fails = attempts === 3 && rand() < 0.7;
  const bank = attempts === 3 ? 700 + rand() * 900 : 60 + rand() * 80;
  const reserve = items * 3.1;
  const total = 22 + reserve + attempts * (bank + 30) + 20;
  const root = add(null, 'edge', 'POST /orders', 'server', 0, total, { attributes: { 'http.request.method': 'POST', 'http.response.status_code': fails ? 502 : 201, 'client.address': '203.0.113.7' }, ...(fails ? { status: 'error', status_message: 'orders answered 502' } : {}) });
  add(root, 'edge', 'check token', 'internal', 0.2, 0.4);
  const hop = add(root, 'orders', 'POST /orders', 'server', 1, total - 2, fails ? { status: 'error', status_message: 'payment failed' } : {});
  const user = add(hop, 'orders', 'GET accounts /user', 'client', 2, 8);
  add(user, 'accounts', 'GET /user', 'server', 2.5, 7);
  const items$ = add(hop, 'orders', 'reserve items', 'internal', 12, reserve);
  for (let at = 0; at < items; at += 1) {
    const call = add(items$, 'orders', 'GET catalog /items/{id}', 'client', 12 + at * 3.1, 2.9, { attributes: { item: `sku-${100 + at}` } });
    if (at % 2 === 0) add(call, 'catalog', 'GET /items/{id}', 'server', 12.4 + at * 3.1, 2, { inferred: at % 4 === 0 });
  }
  say(hop, 13 + reserve, 'info', `reserved ${items} items`);
  let from = 16 + reserve;
  const critical = [root, hop];
  for (let at = 1; at <= attempts; at += 1) {
    const failed = attempts === 3 && (at < 3 || fails);
    const status = failed ? { status: 'error', status_message: 'payments answered 504 after its deadline' } : {};
    const call = add(hop, 'orders', 'POST payments /charges', 'client', from, bank + 8, { attributes: { attempt: at, 'retry.budget_left': 0.4 }, ...status });
    const charge = add(call, 'payments', 'POST /charges', 'server', from + 1, bank + 5, status);
    const ask = add(charge, 'payments', 'bank.example POST /v2/charge', 'client', from + 3, bank, { inferred: at === 1, ...status, events: failed ? [{ time: time(start + from + bank), name: 'exception', attributes: { 'exception.type': 'BankTimeout', 'exception.message': 'connection reset by peer (os error 104)' } }] : [] });
    if (failed) say(charge, from + bank + 2, 'error', 'bank: connection reset by peer (os error 104)');
    if (failed && at < 3) say(hop, from + bank + 12, 'warn', `POST /charges failed: attempt ${at} of 3, again in 20 ms`);
    critical.push(call, charge, ask);
    from += bank + 30;
  }
  if (fails) say(hop, total - 4, 'error', 'payment failed: payments answered 504 after 5000 ms');
  else {
    add(hop, 'orders', 'INSERT order, outbox', 'client', total - 18, 6, { attributes: { 'db.system': 'sqlite' } });
    const sent = add(hop, 'orders', 'publish orders.placed', 'producer', total - 10, 3);
    add(sent, 'points', 'POST /events/order-placed', 'consumer', total + 4, 9);
  }
  return done(critical);
}

export function list({ world, query }) {
  const matches = matcher(query.get('q') ?? '');
  const since = query.get('since') ?? '';
  const until = query.get('until') ?? '9999';
  const from = Number(query.get('before') ?? 0);
  const limit = Number(query.get('limit') ?? 100);
  let found = world.traces.filter((own) => own.start >= since && own.start <= until && matches(own));
  if (query.get('order') === 'duration') found = [...found].sort((a, b) => b.duration_us - a.duration_us);
  const traces = found.slice(from, from + limit).map(({ spans, logs: _logs, critical_path: _path, ...own }) => ({ ...own, spans: spans.length }));
  return { traces, next: found.length > from + limit ? String(from + limit) : null };
}

export function one({ world, parts }) {
  const found = world.traces.find((own) => own.trace === parts[0]);
  if (!found) return { trace: parts[0], spans: [], logs: [], critical_path: [] };
  const { trace, spans, logs, critical_path } = found;
  return { trace, spans, logs: logs.map((own, at) => ({ ...own, number: 900_000 + at })), critical_path };
}
