// What the mock answers has the forms of the node's OpenAPI document, and all that the document
// has can be asked of it: what pages see here is what they see of a node.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { start } from './server.mjs';

const document = JSON.parse(readFileSync(new URL('../openapi.json', import.meta.url), 'utf8'));
/** What only other clients ask for. */
const NOT_HERE = ['GET /v1/logs', 'GET /v1/metrics', 'POST /v1/node/stop', 'POST /v1/tokens/link'];
/** Questions that need more than the parts of their path. */
const QUERIES = {
  'GET /v1/logs/context': (world) => `number=${world.logs[40].number}`,
  'GET /v1/logs/live': () => 'q=',
  'GET /v1/metrics/series': () => 'name=atoll_route_duration_seconds&stat=p99',
};
const BODIES = {
  'POST /session': { token: 'mock-admin' },
  'POST /v1/alerts/{id}/silence': { until: null },
  'POST /v1/cache/purge': { path: '/weather' },
  'POST /v1/dead/drop': { ids: [] },
  'POST /v1/dead/redrive': { all: true, rate: 1000 },
  'POST /v1/dead/{service}/{topic}/{number}/edit': { value: '{}' },
  'POST /v1/keys': { name: 'probe' },
  'POST /v1/readers/{service}/{topic}/replay': { from: '2026-01-01T00:00:00Z' },
  'POST /v1/services/{service}/deployments': { kind: 'restart', why: '' },
  'POST /v1/tokens': { name: 'probe', role: 'viewer' },
  'POST /v1/topics/{topic}/records': { key: null, value: 'a' },
};

const ajv = new Ajv2020({ strict: false, allErrors: true, formats: { int32: true, int64: true, double: true, 'date-time': /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/ } });
ajv.addSchema(closed(structuredClone(document)), 'api');
const pointer = (...parts) => `api#/${parts.map((part) => encodeURIComponent(part.replace(/~/g, '~0').replace(/\//g, '~1'))).join('/')}`;
let mock;
before(async () => {
  mock = await start();
  // It is looked at as it is when it has run for a while.
  mock.world.tick();
});
after(() => mock.stop());

for (const [path, operations] of Object.entries(document.paths)) {
  for (const [verb, operation] of Object.entries(operations)) {
    const name = `${verb.toUpperCase()} ${path}`;
    if (!NOT_HERE.includes(name)) test(name, () => ask(name, verb, path, operation));
  }
}

async function ask(name, verb, path, operation) {
  const { world } = mock;
  const letter = world.events.letters[0].id.split('/');
  const parts = { service: 'orders', topic: 'orders.placed', trace: world.traces[0].trace, subject: 'payments', id: idOf(path, world) };
  if (path.startsWith('/v1/dead/')) [parts.service, parts.topic, parts.number] = letter;
  const url = `${mock.url}${path.replace(/\{(\w+)\}/g, (_, part) => parts[part])}?${QUERIES[name]?.(world) ?? ''}`;
  const body = BODIES[name];
  if (operation.requestBody) check(pointer('paths', path, verb, 'requestBody', 'content', 'application/json', 'schema'), body);
  const control = new AbortController();
  const headers = { cookie: 'atoll=mock-admin', 'x-atoll-csrf': 'mock-csrf' };
  const answer = await fetch(url, { method: verb.toUpperCase(), headers, body: body && JSON.stringify(body), signal: control.signal });
  assert.ok(answer.ok, `${answer.status}: ${answer.ok ? '' : await answer.text()}`);
  const told = operation.responses[answer.status];
  assert.ok(told, `${answer.status} is not in the document`);
  const [kind] = Object.keys(told.content ?? {});
  const schema = () => pointer('paths', path, verb, 'responses', String(answer.status), 'content', kind, 'schema');
  if (kind === undefined) assert.equal(await answer.text(), '');
  else if (kind === 'application/json') check(schema(), await answer.json());
  else if (kind === 'application/x-ndjson') for (const line of (await answer.text()).trim().split('\n')) check(schema(), JSON.parse(line));
  else await events(answer, schema());
  control.abort();
}

function idOf(path, world) {
  if (path.startsWith('/v1/jobs/')) return world.events.jobs[0].id;
  if (path.startsWith('/v1/alerts/')) return world.alerts[0].id;
  if (path.startsWith('/v1/keys/')) return world.keys[0].id;
  if (path.startsWith('/v1/tokens/')) return world.tokens[0].id;
  return world.history.orders[0].id;
}

/** The first event of each name that the document has. */
async function events(answer, schema) {
  const names = new Set(Object.keys(ajv.getSchema(schema).schema.properties));
  let text = '';
  for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (const [, name, data] of text.matchAll(/event: (\w+)\ndata: (.*)\n\n/g)) {
      check(schema, { [name]: JSON.parse(data) });
      names.delete(name);
    }
    if (names.size === 0) return;
  }
  assert.fail(`no events: ${[...names].join(', ')}`);
}

function check(schema, value) {
  const isRight = ajv.getSchema(schema);
  assert.ok(isRight, `no schema ${schema}`);
  assert.ok(isRight(value), `${ajv.errorsText(isRight.errors?.slice(0, 5), { dataVar: '' })}\n${JSON.stringify(value)?.slice(0, 400)}`);
}

/** What a schema does not name is a mistake. Where it is a part of another, that one names all. */
function closed(all) {
  const parts = new Set();
  const close = (value, isPart) => {
    if (typeof value !== 'object' || value === null) return;
    if (!isPart && (value.allOf || value.properties)) value.unevaluatedProperties = false;
    for (const [key, own] of Object.entries(value)) {
      const below = key === 'allOf' || (key === 'oneOf' && isPart);
      if (key === 'allOf') for (const { $ref } of own) if ($ref) parts.add($ref.split('/').at(-1));
      for (const one of Array.isArray(own) ? own : [own]) close(one, below);
    }
  };
  const schemas = Object.entries(all.components.schemas);
  close(structuredClone(all), false);
  for (const [name, schema] of schemas) close(schema, parts.has(name));
  return all;
}
