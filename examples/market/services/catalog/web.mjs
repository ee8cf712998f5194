// The HTTP side, on nothing but Node: JSON in and out, one log line per request that carries the
// trace, errors as problem+json (RFC 9457), and leaving politely on SIGTERM.
//
// The other Node services have a file like this one. That is no oversight: a hundred lines that a
// team may change alone are cheaper than a shared library that all teams must agree on.

import { randomBytes } from "node:crypto";
import http from "node:http";

const TRACEPARENT = /^00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$/;
const LONGEST_BODY = 64 * 1024;

/** One line of JSON. The platform stamps time, service, instance and revision. */
export function log(level, message, fields = {}) {
  process.stdout.write(JSON.stringify({ level, message, ...fields }) + "\n");
}

/** An answer that isn't what the caller hoped for. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** `routes` is a list of [method, regular expression, handler]; a handler gives {status, body}. */
export function serve(routes, headers = {}) {
  let stopping = false;
  const server = http.createServer(async (request, response) => {
    const started = performance.now();
    const url = new URL(request.url, "http://localhost");
    // Called without a trace, for example by hand: this is where one begins.
    const fresh = () => `00-${randomBytes(16).toString("hex")}-${randomBytes(8).toString("hex")}-01`;
    const traceparent = TRACEPARENT.test(request.headers.traceparent) ? request.headers.traceparent : fresh();
    const trace_id = traceparent.slice(3, 35);
    let status, body, type = "application/json";
    try {
      const input = await readJson(request);
      const handler = find(routes, request.method, url.pathname);
      ({ status = 200, body } = await handler({ query: url.searchParams, body: input, traceparent, trace_id }));
    } catch (error) {
      if (!(error instanceof Problem)) log("error", "bug", { trace_id, error: error.stack });
      status = error.status ?? 500;
      body = { status, detail: error.status ? error.message : "something went wrong here", trace_id };
      type = "application/problem+json";
    }
    const text = JSON.stringify(body);
    const closing = stopping || !request.complete ? { connection: "close" } : {};
    response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(text), ...headers, ...closing });
    response.end(text);
    if (url.pathname !== "/healthz") {
      const ms = Math.round(performance.now() - started);
      log(status >= 500 ? "error" : "info", `${request.method} ${url.pathname}`, { trace_id, status, ms });
    }
  });
  server.keepAliveTimeout = 75_000; // longer than the gateway keeps an idle connection
  server.listen(Number(process.env.PORT ?? 0), process.env.HOST ?? "127.0.0.1", () =>
    log("info", "listening", { port: server.address().port }));
  const stop = () => {
    stopping = true;
    server.close(() => process.exit(0)); // closes idle connections, and waits for the others
  };
  process.once("SIGTERM", stop).once("SIGINT", stop);
}

function find(routes, method, path) {
  const here = routes.filter(([, pattern]) => pattern.test(path));
  const route = here.find(([allowed]) => allowed === method);
  if (!route) throw new Problem(here.length ? 405 : 404, here.length ? `${method} makes no sense here` : "there is nothing here");
  const parts = route[1].exec(path).slice(1).map((part) => part && decode(part));
  return (call) => route[2]({ ...call, parts });
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new Problem(400, "the path is not valid");
  }
}

async function readJson(request) {
  let text = "";
  request.setEncoding("utf8");
  for await (const piece of request) {
    text += piece;
    if (text.length > LONGEST_BODY) throw new Problem(413, "the body is too long");
  }
  try {
    return text ? JSON.parse(text) : null;
  } catch (error) {
    throw new Problem(400, `the body is not JSON: ${error.message}`);
  }
}
