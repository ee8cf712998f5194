// Which path is answered by what.
import { readFileSync } from 'node:fs';
import * as events from './events.mjs';
import * as logs from './logs.mjs';
import * as metrics from './metrics.mjs';
import * as timeline from './timeline.mjs';
import * as traces from './traces.mjs';
import { matcher } from './query.mjs';
import { happened, time } from './world.mjs';

const DOCUMENT = JSON.parse(readFileSync(new URL('../openapi.json', import.meta.url), 'utf8'));
const fail = (status, message) => Object.assign(new Error(message), { status });

function service(world, name) {
  const found = world.services.find((own) => own.name === name);
  if (!found) throw fail(404, `there is no service '${name}' here`);
  return found;
}

function settings({ world, parts }) {
  const own = service(world, parts[0]);
  if (own.revision === null) throw fail(404, `no revision of ${own.name} serves, or there is no such service`);
  const setting = (key, value, given = true) => ({ key, value, given });
  return {
    service: own.name, revision: own.revision,
    settings: [
      setting('name', own.name), setting('run', `./${own.name}, --port, $PORT`), setting('request_timeout', '30s', false), setting('env.BANK_KEY', null),
      setting('resources.memory', '256MiB'), setting('resources.cpus', '1'), setting('scale.min', '1', false), setting('scale.max', '4'), ...own.routes.map((route, at) => setting(`route[${at}].path`, route)),
    ],
  };
}

function deploy({ world, parts, body }) {
  const own = service(world, parts[0]);
  if (body.kind === 'scale' && (body.instances < 1 || body.instances > 4)) throw fail(422, `${own.name} may have 1 to 4 instances, not ${body.instances}`);
  world.deployments += 1;
  const id = world.deployments;
  const earlier = own.revision;
  const revision = body.kind === 'rollback' ? (body.revision ?? earlier - 1) : body.kind === 'deploy' ? earlier + 1 : earlier;
  const entry = { id, service: own.name, kind: body.kind, revision, previous: earlier, digest: null, who: 'ada', why: body.why, started: time(Date.now()), ended: null, outcome: null, detail: '', code: null, took_ms: null };
  world.history[own.name].unshift(entry);
  own.deployment = id;
  own.step = 'starting';
  happened(world, { service: own.name, kind: body.kind === 'scale' ? 'scale' : 'deploy', revision, message: `${body.who}: ${body.kind} ${own.name}${body.why ? `: ${body.why}` : ''}` });
  setTimeout(() => {
    Object.assign(entry, { ended: time(Date.now()), outcome: 'succeeded', took_ms: 1500 });
    Object.assign(own, { deployment: null, step: 'succeeded', revision, ...(body.kind === 'scale' ? { wanted: body.instances, serving: Math.min(own.serving, body.instances) } : {}) });
  }, 1500).unref();
  return { deployment: id };
}

function stream({ world, response }, kind, accept = () => true) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  const write = (name, data) => response.write(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  const listener = kind === 'live' ? write : (line) => accept(line) && write('log', line);
  world.listeners[kind].add(listener);
  response.on('close', () => world.listeners[kind].delete(listener));
  if (kind === 'live') {
    write('services', world.services);
    write('alerts', world.alerts);
  } else response.write(': begun\n\n');
}

async function deployment({ world, parts, query }) {
  const found = Object.values(world.history).flat().find((own) => own.id === Number(parts[0]));
  if (!found) throw fail(404, `there is no deployment ${parts[0]}`);
  const until = Date.now() + Number(query.get('wait') ?? 0) * 1000;
  while (found.outcome === null && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 100));
  return found;
}

function silence({ world, parts, body }) {
  const found = world.alerts.find((own) => own.id === parts[0]);
  if (!found) throw fail(404, `there is no alert ${parts[0]}`);
  found.silenced_until = body.until;
  for (const listener of world.listeners.live) listener('alerts', world.alerts);
}

function pastAlerts({ world, query }) {
  const page = (days) => world.alerts.flatMap((own, at) => ['resolved', 'firing'].map((state, back) => ({ ...own, state, silenced: at === 2, silenced_until: null, since: time(world.now - (at + days) * 86_400_000 - back * 600_000) })));
  return query.get('before') === null ? { alerts: page(2), next: '7' } : { alerts: page(9), next: null };
}

function purge({ world, body }) {
  if (body.path !== undefined && !body.path.startsWith('/')) throw fail(422, "a path starts with '/' and has no query");
  const pages = body.all ? world.cache.entries : 4;
  world.cache.entries -= pages;
  return { pages };
}

function revoke(list, id) {
  const found = list.find((own) => own.id === id);
  if (!found) throw fail(404, `there is no ${id}`);
  found.revoked = time(Date.now());
  return found;
}

function newToken({ world, body }) {
  const id = `tk-${world.tokens.length + 1}`;
  world.tokens.push({ id, name: body.name, role: body.role, created: time(Date.now()), revoked: null, last_used: null });
  return { ...world.tokens.at(-1), token: `atl_${id}_0123456789abcdef0123456789abcdef` };
}

function history({ world, parts, query }) {
  const before = Number(query.get('before') ?? Infinity);
  return service(world, parts[0]) && world.history[parts[0]].filter((own) => own.id < before).slice(0, Number(query.get('limit') ?? 50));
}

function audit({ world, query }) {
  const count = 240;
  const before = Number(query.get('before') ?? count + 1);
  const limit = Number(query.get('limit') ?? 100);
  const rows = Array.from({ length: count }, (_, at) => ({
    number: count - at, time: time(world.now - at * 431_000), who: ['ada', 'grace', 'local'][at % 3], role: at % 3 === 2 ? 'operator' : 'admin', way: ['session', 'token', 'socket'][at % 3],
    method: 'POST', path: ['/v1/services/payments/deployments', '/v1/cache/purge', '/v1/dead/redrive'][at % 3], what: ['scale to 3 instances: sale on Friday', 'forget /catalog/**', ''][at % 3], status: at % 17 === 5 ? 403 : 202,
  })).filter((own) => own.number < before);
  return { entries: rows.slice(0, limit), next: rows.length > limit ? rows[limit - 1].number : null };
}

const node = ({ world }) => ({ application: 'market', dir: '/srv/market', version: '0.6.0', pid: 4021, started: time(world.now - 9_400_000), edge: 'https://shop.example:8443', console: 'http://127.0.0.1:8484', warnings: ['memory limits are not enforced: this machine has no cgroup v2'], logs_trouble: null, logs_dropped: 0 });
const resilience = ({ world }) => {
  const cause = (failures, calls) => ({ kind: 'calls', failures, calls, last: 'timed_out' });
  return {
    breakers: [
      { caller: 'orders', callee: 'payments', state: 'open', why: '116 of 200 calls failed within 10s, last: no answer in time; out until 2026-01-01T00:00:05Z', facts: { cause: cause(116, 200), trials_failed: 0, until: time(world.now + 5000) } },
      { caller: 'notices', callee: 'weather', state: 'half_open', why: '20 of 20 calls failed within 10s, last: no answer in time; on trial', facts: { cause: cause(20, 20), trials_failed: 0 } },
    ],
    instances: [{ instance: 'payments-r9-2', state: 'out', why: '5 failures in a row; tried again in 40 s' }],
  };
};

export const routes = [
  ['GET', /^\/v1\/openapi\.json$/, () => DOCUMENT],
  ['GET', /^\/v1\/node$/, node],
  ['GET', /^\/v1\/resilience$/, resilience],
  ['GET', /^\/v1\/services$/, ({ world }) => world.services],
  ['GET', /^\/v1\/services\/([^/]+)$/, ({ world, parts }) => service(world, parts[0])],
  ['GET', /^\/v1\/services\/([^/]+)\/history$/, history],
  ['GET', /^\/v1\/services\/([^/]+)\/settings$/, settings],
  ['POST', /^\/v1\/services\/([^/]+)\/deployments$/, deploy, 202],
  ['GET', /^\/v1\/deployments\/(\d+)$/, deployment],
  ['GET', /^\/v1\/live$/, (context) => stream(context, 'live')],
  ['GET', /^\/v1\/logs\/search$/, logs.search],
  ['GET', /^\/v1\/logs\/histogram$/, logs.histogram],
  ['GET', /^\/v1\/logs\/facets$/, logs.facets],
  ['GET', /^\/v1\/logs\/context$/, logs.around],
  ['GET', /^\/v1\/logs\/live$/, (context) => stream(context, 'logs', matcher(context.query.get('q') ?? ''))],
  ['GET', /^\/v1\/traces$/, traces.list],
  ['GET', /^\/v1\/traces\/([0-9a-f]{32})$/, traces.one],
  ['GET', /^\/v1\/map$/, metrics.map],
  ['GET', /^\/v1\/metrics\/names$/, metrics.names],
  ['GET', /^\/v1\/metrics\/series$/, metrics.series],
  ['GET', /^\/v1\/timeline$/, timeline.timeline],
  ['GET', /^\/v1\/errors$/, timeline.errors],
  ['GET', /^\/v1\/why\/([^/]+)$/, timeline.why],
  ['GET', /^\/v1\/routes$/, metrics.routes],
  ['GET', /^\/v1\/costs$/, metrics.costs],
  ['GET', /^\/v1\/objectives$/, metrics.objectives],
  ['GET', /^\/v1\/alerts$/, ({ world }) => world.alerts],
  ['GET', /^\/v1\/alerts\/history$/, pastAlerts],
  ['POST', /^\/v1\/alerts\/([^/]+)\/silence$/, silence],
  ['GET', /^\/v1\/topics$/, ({ world }) => world.events.topics],
  ['GET', /^\/v1\/topics\/([^/]+)\/partitions$/, events.partitions],
  ['GET', /^\/v1\/topics\/([^/]+)\/records$/, events.records],
  ['POST', /^\/v1\/topics\/([^/]+)\/records$/, ({ parts }) => ({ topic: parts[0], partition: 2, offset: 184_203 })],
  ['GET', /^\/v1\/readers$/, ({ world }) => world.events.readers],
  ['POST', /^\/v1\/readers\/([^/]+)\/([^/]+)\/replay$/, () => ({ records: 1284 })],
  ['GET', /^\/v1\/dead$/, events.letters],
  ['GET', /^\/v1\/dead\/([^/]+)\/([^/]+)\/(\d+)$/, events.letter],
  ['POST', /^\/v1\/dead\/([^/]+)\/([^/]+)\/(\d+)\/edit$/, events.edit],
  ['POST', /^\/v1\/dead\/drop$/, events.drop],
  ['POST', /^\/v1\/dead\/redrive$/, events.redrive],
  ['GET', /^\/v1\/jobs$/, events.jobList],
  ['GET', /^\/v1\/jobs\/([^/]+)$/, events.job],
  ['POST', /^\/v1\/jobs\/([^/]+)\/cancel$/, (context) => Object.assign(events.job(context), { state: 'cancelled' })],
  ['POST', /^\/v1\/jobs\/([^/]+)\/retry$/, (context) => Object.assign(events.job(context), { state: 'queued', reason: null })],
  ['GET', /^\/v1\/outboxes$/, ({ world }) => world.events.outboxes],
  ['GET', /^\/v1\/cache$/, ({ world }) => world.cache],
  ['POST', /^\/v1\/cache\/purge$/, purge],
  ['GET', /^\/v1\/keys$/, ({ world }) => world.keys],
  ['POST', /^\/v1\/keys$/, ({ world, body }) => ({ key: 'ak_new1_0123456789abcdef', ...(world.keys.push({ id: 'ak_new1', name: body.name, scopes: body.scopes ?? [], created: time(Date.now()), expires: body.expires ?? null, revoked: null }) && world.keys.at(-1)) }), 201],
  ['POST', /^\/v1\/keys\/([^/]+)\/revoke$/, ({ world, parts }) => revoke(world.keys, parts[0])],
  ['GET', /^\/v1\/tokens$/, ({ world }) => world.tokens],
  ['POST', /^\/v1\/tokens$/, newToken, 201],
  ['POST', /^\/v1\/tokens\/([^/]+)\/revoke$/, ({ world, parts }) => revoke(world.tokens, parts[0])],
  ['GET', /^\/v1\/audit$/, audit],
];
