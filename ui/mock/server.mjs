// A node that is none: it serves the console's API with made-up data of the example shop, and the
// built console, under the same headers as a node would. For development and tests only.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeWorld } from './world.mjs';
import { routes } from './routes.mjs';

/** What is an admin's alone. */
const ADMINS = /^\/v1\/(tokens|audit|keys|node\/stop)(\/|$)/;

const DIST = join(fileURLToPath(import.meta.url), '../../dist');
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
export const TOKENS = { 'mock-admin': 'admin', 'mock-operator': 'operator', 'mock-viewer': 'viewer' };
const CSRF = 'mock-csrf';

export async function start({ port = 0, now = Date.now() } = {}) {
  const world = makeWorld(now);
  const server = createServer((request, response) => {
    answer(world, request, response).catch((error) => {
      if (!response.headersSent) problem(response, error.status ?? 500, error.message);
      else response.end();
    });
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${server.address().port}`;
  const stop = () => {
    world.stop();
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { url, world, stop };
}

async function answer(world, request, response) {
  const url = new URL(request.url, 'http://mock');
  if (url.pathname === '/session') return session(request, response);
  if (!url.pathname.startsWith('/v1/')) return file(url.pathname, response);
  const role = roleOf(request);
  if (!role) return problem(response, 401, 'log in first');
  if (role !== 'admin' && ADMINS.test(url.pathname)) return problem(response, 403, `this needs the role admin; ada is ${role}`);
  if (url.pathname === '/v1/me') return json(response, { name: 'ada', role, csrf: CSRF });
  if (request.method !== 'GET') {
    if (request.headers['x-atoll-csrf'] !== CSRF) return problem(response, 403, 'the CSRF token is missing or wrong');
    if (role === 'viewer') return problem(response, 403, 'a viewer may look, not change');
  }
  for (const [method, pattern, handle, status = 200] of routes) {
    const match = method === request.method && pattern.exec(url.pathname);
    if (!match) continue;
    const body = request.method === 'GET' ? undefined : await read(request);
    const context = { world, query: url.searchParams, body, role, request, response, parts: match.slice(1).map(decodeURIComponent) };
    const found = await handle(context);
    if (response.headersSent) return undefined;
    return found === undefined ? response.writeHead(204).end() : json(response, found, status);
  }
  return problem(response, 404, `there is no ${url.pathname}; see /v1/openapi.json`);
}

async function session(request, response) {
  const known = roleOf(request);
  if (request.method === 'GET') return json(response, known ? { name: 'ada', role: known, csrf: CSRF } : null);
  if (request.method === 'DELETE') return response.writeHead(204, { 'set-cookie': 'atoll=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict' }).end();
  const { token } = await read(request);
  if (!TOKENS[token]) return problem(response, 401, 'this token is not known, or was revoked');
  return response.writeHead(204, { 'set-cookie': `atoll=${token}; Path=/; HttpOnly; SameSite=Strict` }).end();
}

function roleOf(request) {
  const cookie = /(?:^|; )atoll=([^;]+)/.exec(request.headers.cookie ?? '')?.[1];
  return TOKENS[cookie];
}

async function read(request) {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text === '' ? {} : JSON.parse(text);
}

async function file(path, response) {
  const name = normalize(path).replace(/^(\.\.[/\\])+/, '');
  // A dot is no file's ending: `/events/topics/orders.placed` is a page.
  const isFile = name.startsWith('/assets/') || name === '/icon.svg';
  try {
    const content = await readFile(join(DIST, isFile ? name : 'index.html'));
    const caching = name.startsWith('/assets/') ? 'public, max-age=31536000, immutable' : 'no-cache';
    response.writeHead(200, { 'content-type': TYPES[isFile ? extname(name) : '.html'], 'content-security-policy': POLICY, 'cache-control': caching });
    response.end(content);
  } catch {
    problem(response, 404, `there is no ${path}; run \`npm run build\` first`);
  }
}

export function json(response, value, status = 200) {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' });
  response.end(JSON.stringify(value));
}

export function problem(response, status, detail, more = {}) {
  const titles = { 400: 'Bad Request', 401: 'Unauthorized', 403: 'Forbidden', 404: 'Not Found', 409: 'Conflict', 422: 'Unprocessable Content' };
  response.writeHead(status, { 'content-type': 'application/problem+json' });
  response.end(JSON.stringify({ title: titles[status] ?? 'Error', status, detail, ...more }));
}
