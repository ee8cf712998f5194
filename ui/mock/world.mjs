// The shop on a bad evening. Since twelve minutes payments' bank answers slowly or not at all: a new
// revision of payments was deployed a minute before. Orders suffers, dead letters pile up. All of
// it is made from one seed, so that pictures and tests do not change from run to run.
import { makeEvents } from './events.mjs';
import { makeLogs, nextLog } from './logs.mjs';
import { makeTimeline } from './timeline.mjs';
import { makeTraces } from './traces.mjs';

export const SERVICES = [
  ['accounts', 'team-identity', 'Who a customer is: registration, login, signed tokens', 2, 4, 38, 42, ['POST /login', 'GET,POST,PATCH,DELETE /user', 'GET /.well-known/jwks.json'], ['2xx']],
  ['catalog', 'team-catalog', 'What the shop sells', 2, 7, 212, 6.4, ['GET /catalog/**']],
  ['legacy', 'team-archaeology', "The old monolith: what hasn't been rewritten yet", 1, 1, 1.4, 310, ['GET /legacy/**', 'GET /reports/**']],
  ['notices', 'team-frontpage', 'A line for the top of the page, with the weather when there is some', 1, 3, 55, 18, ['GET /notice']],
  ['orders', 'team-orders', 'Takes orders, has them paid, and keeps them', 2, 12, 24, 2400, ['GET,POST /orders', 'GET /orders/{id}', 'POST /orders/{id}/cancel']],
  ['payments', 'team-payments', 'An adapter to a bank that is slow and fails', 2, 9, 21, 5100, ['GET,PUT /faults']],
  ['points', 'team-loyalty', 'What loyal customers collect', 1, 5, 9.2, 31, ['GET /points/{user}']],
  ['weather', 'team-frontpage', 'Slow on purpose: every suite has such a service', 1, 2, 0.3, 1510, ['GET /weather']],
];

/** A small generator with a seed (mulberry32). */
export function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export const time = (ms) => new Date(ms).toISOString().replace('Z', '000Z');
export const hex = (rand, digits) => Array.from({ length: digits }, () => Math.floor(rand() * 16).toString(16)).join('');

export const BROKEN_SINCE = 12 * 60_000;

export function makeWorld(now) {
  const rand = random(7);
  const world = { now, rand, listeners: { live: new Set(), logs: new Set() }, tokens: tokens(now), keys: keys(now), audit: [], cache: { hits: 48_211, misses: 1204, kept: 1199, entries: 37, bytes: 1_482_240 } };
  world.services = SERVICES.map((own) => service(own, now));
  world.history = Object.fromEntries(SERVICES.map(([name, , , , revision]) => [name, history(name, revision, now)]));
  world.traces = makeTraces(random(11), now);
  world.logs = makeLogs(random(13), now, world.traces);
  world.events = makeEvents(random(17), now, world.traces);
  world.timeline = makeTimeline(random(19), now, world.traces);
  world.alerts = alerts(now);
  world.deployments = 400;
  world.tick = () => tick(world);
  const beat = setInterval(world.tick, 1000);
  const chatter = setInterval(() => {
    const line = nextLog(world);
    for (const listener of world.listeners.logs) listener(line);
  }, 180);
  beat.unref();
  chatter.unref();
  world.stop = () => {
    clearInterval(beat);
    clearInterval(chatter);
  };
  return world;
}

function service([name, owner, description, wanted, revision, rate, p99, routes], now) {
  const isIll = name === 'payments';
  const errors = isIll ? rate * 0.31 : name === 'orders' ? rate * 0.18 : name === 'legacy' ? 0.004 : 0;
  const reason = 'did not answer its health check for 6 s: GET /healthz timed out after 2 s, 3 times in a row';
  const instances = Array.from({ length: wanted }, (_, at) => {
    const isDown = isIll && at === 1;
    return {
      id: `${name}-r${revision}-${at + 1}`,
      revision,
      state: isDown ? 'crash_loop' : 'ready',
      serving: !isDown,
      pid: isDown ? null : 41_200 + name.length * 31 + at,
      address: isDown ? null : `127.0.0.1:${42_000 + name.length * 31 + at}`,
      restarts: isDown ? 7 : 0,
      since: time(now - (isDown ? 40_000 : 9_400_000)),
      reason: isDown ? reason : null,
      last_lines: isDown ? ['\u001b[31mERROR\u001b[0m bank: connection reset by peer (os error 104)', 'thread main panicked at src/bank.rs:88: pool is empty', 'note: run with RUST_BACKTRACE=1'] : [],
      cpu_ns: 1e12 + at * 1e10,
      memory: (30 + name.length * 7 + at * 3) * 1_048_576,
    };
  });
  return {
    name, owner, description,
    state: isIll ? 'degraded' : 'ready',
    revision, wanted, serving: isIll ? 1 : wanted,
    deployment: null, step: 'succeeded', reason: isIll ? `payments-r${revision}-2 ${reason}` : null, deployment_ms: 2310,
    instances,
    requests_per_second: rate, errors_per_second: errors, p99_ms: p99,
    requests: Math.round(rate * 9400), errors: Math.round(errors * 720), routes,
  };
}

function history(name, revision, now) {
  const whys = ['new prices', 'log in JSON', 'bank client 2.4: shorter timeouts', 'fix rounding of totals', '', 'spring season', 'more instances for the sale'];
  const who = ['ada', 'grace', 'ci', 'linus'];
  const broken = name === 'payments';
  return Array.from({ length: Math.min(revision * 2, 14) }, (_, at) => {
    const own = revision - Math.floor(at / 2);
    const isNewest = at === 0;
    const kind = ['deploy', 'restart', 'deploy', 'scale', 'deploy', 'rollback'][at % 6];
    const failed = at === 4;
    const started = isNewest && broken ? now - 13 * 60_000 : now - (at + 1) * 7_230_000 - name.length * 600_000;
    return {
      id: 399 - at * 9 - name.length, service: name, kind, revision: own, previous: own > 1 ? own - 1 : null,
      digest: `${(own * 7919 + name.length * 104_729).toString(16).padStart(8, '4')}${'c0ffee5eed'.repeat(6)}`.slice(0, 64),
      who: isNewest && broken ? 'grace' : who[(at + name.length) % 4], why: isNewest && broken ? whys[2] : whys[(at * 3 + name.length) % 7],
      started: time(started), ended: time(started + 2300 + at * 130), outcome: failed ? 'failed' : 'succeeded',
      detail: failed ? 'the new revision did not become ready within 60 s; revision ' + (own - 1) + ' serves on' : '', code: failed ? 'ATL0312' : null, took_ms: failed ? 60_400 : 2300 + at * 130,
    };
  });
}

function alerts(now) {
  const alert = (service, objective, severity, state, minutes, silenced, message) => ({
    id: `${service}-${objective}-${severity}`, service, objective, severity, state, since: time(now - minutes * 60_000), silenced_until: silenced === null ? null : time(now + silenced * 60_000), message,
  });
  return [
    alert('legacy', 'latency', 'ticket', 'pending', 1.5, null, 'the budget burns 33.3 times too fast: 3 of 9 requests took longer than 300ms in 1d, 3 of 9 in 2h; too few to alert anyone'),
    alert('orders', 'availability', 'page', 'firing', 11, null, 'the budget burns 41.0 times too fast: 1804 of 44000 requests failed in 1h, 1790 of 9900 in 5m'),
    alert('orders', 'latency', 'page', 'firing', 10, 50, 'the budget burns 22.0 times too fast: 9680 of 44000 requests took longer than 800ms in 1h, 3100 of 9900 in 5m'),
  ];
}

function tokens(now) {
  return [
    { id: 'tk-1', name: 'ada', role: 'admin', created: time(now - 40 * 86_400_000), revoked: null, last_used: time(now - 4000) },
    { id: 'tk-2', name: 'ci', role: 'operator', created: time(now - 30 * 86_400_000), revoked: null, last_used: null },
    { id: 'tk-3', name: 'wall display', role: 'viewer', created: time(now - 20 * 86_400_000), revoked: time(now - 86_400_000), last_used: null },
  ];
}

function keys(now) {
  return [
    { id: 'ak_7f3k', name: 'partner-acme', scopes: ['orders:read'], created: time(now - 12 * 86_400_000), expires: time(now + 90 * 86_400_000), revoked: null },
    { id: 'ak_92ms', name: 'price-robot', scopes: ['catalog:read', 'catalog:write'], created: time(now - 4 * 86_400_000), expires: null, revoked: null },
  ];
}

function tick(world) {
  const wave = Math.sin(Date.now() / 9000);
  for (const [at, own] of world.services.entries()) {
    const base = SERVICES[at];
    own.requests_per_second = Math.max(0, base[5] * (1 + wave * 0.08 + (world.rand() - 0.5) * 0.06));
    if (own.errors_per_second > 0.1) own.errors_per_second = own.requests_per_second * (own.name === 'payments' ? 0.31 : 0.18);
    own.p99_ms = base[6] * (1 + (world.rand() - 0.5) * 0.1);
    for (const instance of own.instances) {
      if (instance.state === 'ready') instance.cpu_ns += Math.round((0.02 + base[5] / 900 + world.rand() * 0.05) * 1e9);
      instance.memory = Math.max(8e6, instance.memory + Math.round((world.rand() - 0.5) * 400_000));
    }
  }
  for (const listener of world.listeners.live) listener('services', world.services);
}

/** A new event of the timeline. */
export function happened(world, event) {
  world.timeline.unshift({ time: time(Date.now()), instance: null, revision: null, level: 'info', trace: null, ...event });
}
