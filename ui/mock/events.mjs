// Topics, readers, dead letters, jobs and outboxes of the shop; what is edited, redriven or dropped
// changes here as it would on a node.
import { BROKEN_SINCE, hex, time } from './world.mjs';

const MINUTE = 60_000;

export function makeEvents(rand, now, traces) {
  const failed = traces.filter((own) => own.errors > 0);
  const letters = [];
  const add = (service, topic, group, reason, answer, value, at) => {
    const number = letters.length + 1;
    letters.push({
      id: `${service}/${topic}/${number}`, service, topic, partition: number % 4, offset: 2000 + number * 3, path: `/events/${topic.replace('.', '-')}`, died: time(now - at), attempts: service === 'points' ? 30 : 12, deaths: 1,
      reason, answer, trace: failed[number % failed.length].trace, group, key: `u-${number % 90}`, value: JSON.stringify(value), edited: false, headers: [['ce-id', hex(rand, 12)], ['ce-type', topic], ['content-type', 'application/json']],
    });
  };
  for (let at = 0; at < 46; at += 1) add('orders', 'payments.settled', 'g-504', 'answered 504 after 5 s, 12 times', 'upstream timeout', { order: hex(rand, 8), amount: Math.round(rand() * 9000) / 100, state: 'settled' }, rand() * BROKEN_SINCE);
  for (let at = 0; at < 5; at += 1) add('points', 'orders.placed', 'g-422', 'refused with 422: total is no number', '{"error":"total is no number","got":"12,90"}', { order: hex(rand, 8), user: `u-${at}`, total: '12,90' }, MINUTE * (40 + at * 31));
  add('points', 'orders.placed', 'g-hostile', 'refused with 422: <img src=x onerror=alert(1)> is no customer', '<h1>422</h1>', { order: hex(rand, 8), user: '<img src=x onerror=alert(1)>', total: 1 }, MINUTE * 300);
  return { letters, jobs: jobs(rand, now), topics: topics(), readers: readers(now), outboxes: outboxes(now) };
}

function topics() {
  const topic = (name, partitions, records, publishers, of) => ({ name, partitions, records, bytes: records * 240, publishers, readers: of });
  return [topic('orders.placed', 4, 184_202, ['orders'], ['points']), topic('orders.cancelled', 4, 6120, ['orders'], ['points']), topic('payments.settled', 8, 171_388, ['payments'], ['orders', 'reporting']), topic('mail.send', 2, 40_211, ['accounts', 'orders'], ['notices'])];
}

function partitionsOf(name) {
  const topic = topics().find((own) => own.name === name);
  if (!topic) throw Object.assign(new Error(`there is no topic '${name}'`), { status: 404 });
  const each = Math.floor(topic.records / topic.partitions);
  return Array.from({ length: topic.partitions }, (_, partition) => ({ partition, start: 1000, end: 1000 + each + (partition === 0 ? topic.records % topic.partitions : 0) }));
}

export const partitions = ({ parts }) => partitionsOf(parts[0]);

function readers(now) {
  // One partition is behind, the others are not.
  const lags = (topic, lag) => partitionsOf(topic).map(({ partition }) => ({ partition, lag: partition === 1 ? lag : 0 }));
  const reader = (name, pushed, topic, lag, more = {}) => ({ name, pushed, topic, lag, lags: lags(topic, lag), in_flight: 0, failing: 0, paused_until: null, taken: 80_400 + lag, failed: 3, dead: 0, trouble: null, trouble_at: null, ...more });
  return [
    reader('orders', true, 'payments.settled', 1482, { in_flight: 4, failing: 46, failed: 2210, dead: 46, trouble: 'POST /events/payment-settled answered 504 after 5 s', trouble_at: time(now - 9000) }),
    reader('points', true, 'orders.placed', 3, { in_flight: 1, dead: 6 }),
    reader('points', true, 'orders.cancelled', 0),
    reader('notices', true, 'mail.send', 0),
    reader('reporting', false, 'payments.settled', 24_100, { taken: 0 }),
  ];
}

function jobs(rand, now) {
  const states = ['done', 'done', 'done', 'failed', 'running', 'queued', 'cancelled'];
  return Array.from({ length: 160 }, (_, at) => {
    const state = at < 2 ? 'running' : states[at % states.length];
    const created = now - at * 97_000;
    const isOver = ['done', 'failed', 'cancelled'].includes(state);
    return {
      id: `${hex(rand, 8)}-${hex(rand, 4)}-7${hex(rand, 3)}-a${hex(rand, 3)}-${hex(rand, 12)}`, queue: at % 3 === 0 ? 'mail.send' : 'reports.make', service: at % 3 === 0 ? 'notices' : 'legacy', caller: at % 2 ? 'orders' : 'accounts', state,
      attempts: state === 'failed' ? 5 : 1, created: time(created), due: state === 'queued' ? time(now + 60_000) : null, started: state === 'queued' ? null : time(created + 900), finished: isOver ? time(created + 2400) : null,
      reason: state === 'failed' ? 'answered 500: mail server refuses the sender' : null,
      answer: state === 'done' ? { status: 200, content_type: 'application/json', body: '{"sent":true}', cut: false } : null,
    };
  });
}

function outboxes(now) {
  return [
    { service: 'orders', table: 'outbox', published: 9120, refused: 1, waiting: 14, trouble: 'row 88213 is refused: `total` must be a number (schema orders.placed)', trouble_since: time(now - 7 * MINUTE) },
    { service: 'payments', table: 'outbox', published: 8811, refused: 0, waiting: 0, trouble: null, trouble_since: null },
  ];
}

export function letters({ world, query }) {
  const own = world.events.letters.filter((letter) => ['service', 'topic', 'group'].every((key) => !query.get(key) || query.get(key) === letter[key]));
  const after = query.get('after');
  const from = after ? own.findIndex((letter) => letter.id === after) + 1 : 0;
  const limit = Number(query.get('limit') ?? 1000);
  const page = own.slice(from, from + limit);
  return { letters: page, next: own.length > from + limit ? page.at(-1).id : null };
}

function find(world, parts) {
  const found = world.events.letters.find((own) => own.id === parts.join('/'));
  if (!found) throw Object.assign(new Error(`there is no dead letter ${parts.join('/')}`), { status: 404 });
  return found;
}

export const letter = ({ world, parts }) => find(world, parts);

export function edit({ world, parts, body }) {
  return Object.assign(find(world, parts), { value: body.value, edited: true });
}

export function drop({ world, body }) {
  world.events.letters = world.events.letters.filter((own) => !body.ids.includes(own.id));
}

/** Letters that were edited, or that a well service refused for no reason of its own, are taken. */
export async function redrive({ world, body, response, request }) {
  const which = body.which ?? {};
  const named = ['service', 'topic', 'group'].filter((key) => which[key]);
  const chosen = world.events.letters.filter((own) => (body.ids?.length ? body.ids.includes(own.id) : body.all || (named.length > 0 && named.every((key) => own[key] === which[key]))));
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  let failures = 0;
  let gone = false;
  request.on('close', () => {
    gone = true;
  });
  for (const [at, own] of chosen.entries()) {
    if (gone && request.destroyed) return;
    await new Promise((resolve) => setTimeout(resolve, Math.min(300, 1000 / body.rate)));
    const isTaken = own.edited || (own.group === 'g-504' && at % 3 !== 1);
    failures = isTaken ? 0 : failures + 1;
    if (isTaken) world.events.letters = world.events.letters.filter((other) => other !== own);
    response.write(`${JSON.stringify(isTaken ? { outcome: 'taken', id: own.id } : { outcome: 'failed', id: own.id, reason: own.reason })}\n`);
    if (failures >= body.stop_after) {
      response.write(`${JSON.stringify({ outcome: 'stopped', left: chosen.length - at - 1 })}\n`);
      break;
    }
  }
  response.end();
}

/** The tail of a topic, one record a line. */
export function records({ query, response, parts }) {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  const record = (offset, ms) => ({ partition: offset % 4, offset, time: time(ms), key: `u-${offset % 90}`, value: offset % 11 === 0 ? { base64: 'AAECA/8=' } : JSON.stringify({ topic: parts[0], order: (offset * 7919).toString(16), total: (offset % 90) + 0.9 }), headers: [['ce-type', parts[0]]] });
  const tail = Number(query.get('tail') ?? 10) * 4;
  const now = Date.now();
  for (let at = tail; at > 0; at -= 1) response.write(`${JSON.stringify(record(184_202 - at, now - at * 2000))}\n`);
  if (query.get('follow') !== 'true') return response.end();
  let offset = 184_202;
  const timer = setInterval(() => response.write(`${JSON.stringify(record((offset += 1), Date.now()))}\n`), 700);
  response.on('close', () => clearInterval(timer));
  return undefined;
}

export function job({ world, parts }) {
  const found = world.events.jobs.find((own) => own.id === parts[0]);
  if (!found) throw Object.assign(new Error(`there is no job ${parts[0]}`), { status: 404 });
  return found;
}

export function jobList({ world, query }) {
  const before = query.get('before') ? world.events.jobs.indexOf(job({ world, parts: [query.get('before')] })) : -1;
  const older = world.events.jobs.slice(before + 1);
  return older.filter((own) => ['queue', 'state'].every((key) => !query.get(key) || own[key] === query.get(key))).slice(0, Number(query.get('limit') ?? 100));
}
