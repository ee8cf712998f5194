// What a shop of this size has not, and the console must show all the same. A queue: each job fails the
// first time it is tried, and is done the second time (`POST /chores` asks for one; with `?delay=1h` it
// waits). Lines that would do harm if a browser or a terminal obeyed them (`POST /chores/hostile`). A call
// that says nothing of the request it is made for (`POST /chores/through`).
import { createServer } from 'node:http';

const tried = new Set();
const ESCAPE = '\u001b';
const HOSTILE = [
  '<img src=x onerror="document.title=`taken over`"><script>document.title="taken over"</script> hostile html',
  `${ESCAPE}]0;taken over\u0007${ESCAPE}[2J${ESCAPE}[31m hostile escapes`,
  `hostile megabyte ${'x'.repeat(1 << 20)}`,
];

const ask = async (url, options) => {
  const answer = await fetch(url, options);
  return [answer.status, await answer.text()];
};

async function answer(request) {
  const url = new URL(request.url, 'http://localhost');
  switch (url.pathname) {
    case '/healthz':
      return [200, 'fine'];
    case '/jobs/chores': {
      const id = request.headers['ce-id'];
      if (tried.has(id)) return [200, 'swept'];
      tried.add(id);
      return [500, 'no broom'];
    }
    case '/chores/hostile':
      for (const line of HOSTILE) process.stdout.write(`${line}\n`);
      return [200, 'said'];
    case '/chores/through':
      return ask(`${process.env.CATALOG_URL}/catalog`);
    default:
      return ask(`${process.env.EVENTS_URL}/jobs/chores${url.search}`, { method: 'POST', body: 'sweep' });
  }
}

createServer(async (request, response) => {
  request.resume();
  const [status, body] = await answer(request).catch((error) => [500, error.message]);
  response.writeHead(status, { 'content-type': 'text/plain' });
  response.end(body);
}).listen(process.env.PORT, process.env.HOST ?? '127.0.0.1');
