// A queue. Each job fails the first time it is tried, and is done the second time. `POST /chores` asks
// for one; with `?delay=1h` it waits.
import { createServer } from 'node:http';

const tried = new Set();

async function answer(request) {
  const url = new URL(request.url, 'http://localhost');
  if (url.pathname === '/healthz') return [200, 'fine'];
  if (url.pathname === '/jobs/chores') {
    const id = request.headers['ce-id'];
    if (tried.has(id)) return [200, 'swept'];
    tried.add(id);
    return [500, 'no broom'];
  }
  const asked = await fetch(`${process.env.EVENTS_URL}/jobs/chores${url.search}`, { method: 'POST', body: 'sweep' });
  return [asked.status, await asked.text()];
}

createServer(async (request, response) => {
  request.resume();
  const [status, body] = await answer(request).catch((error) => [500, error.message]);
  response.writeHead(status, { 'content-type': 'text/plain' });
  response.end(body);
}).listen(process.env.PORT, process.env.HOST ?? '127.0.0.1');
