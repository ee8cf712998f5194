// A small HTTP service, with Node's standard library alone.
import http from "node:http";

export function makeServer() {
  const server = http.createServer((request, response) => {
    if (request.url === "/healthz") return answer(response, 200, { status: "ok" });
    answer(response, 200, { hello: "from SERVICE_NAME", revision: process.env.ATOLL_REVISION ?? null });
    // A line of JSON with the trace that the request belongs to: `atoll logs --trace ID` finds it.
    const traceparent = request.headers.traceparent ?? null;
    console.log(JSON.stringify({ message: `${request.method} ${request.url}`, traceparent }));
  });
  // The gateway reuses its connections; do not close them under it.
  server.keepAliveTimeout = 75_000;
  return server;
}

function answer(response, status, body) {
  const data = Buffer.from(JSON.stringify(body));
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": data.length });
  response.end(data);
}

if (import.meta.filename === process.argv[1] || process.argv[1]?.endsWith("main.mjs")) {
  const server = makeServer();
  server.listen(Number(process.env.PORT ?? 8000), process.env.HOST ?? "127.0.0.1");
  // SIGTERM means: finish and leave.
  process.on("SIGTERM", () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}
