// The real service on a free port. node --test

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const headers = { traceparent: `00-${TRACE}-00f067aa0ba902b7-01` };
let service, url;
const logs = [];

before(async () => {
  const env = { ...process.env, HOST: "127.0.0.1", PORT: "0", ATOLL_REVISION: "7" };
  service = spawn(process.execPath, ["main.mjs"], { cwd: new URL(".", import.meta.url), env, stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: service.stdout });
  const [first] = await once(lines, "line");
  lines.on("line", (line) => logs.push(JSON.parse(line)));
  url = `http://127.0.0.1:${JSON.parse(first).port}`;
});

after(() => service.kill("SIGKILL"));

async function get(path) {
  const response = await fetch(url + path, { headers });
  return { status: response.status, revision: response.headers.get("x-revision"), body: await response.json() };
}

test("lists, finds and shows products", async () => {
  const all = await get("/catalog");
  assert.equal(all.status, 200);
  assert.equal(all.revision, "7");
  assert.ok(all.body.products.length >= 5);
  const found = await get("/catalog?q=KILO%20tree");
  assert.deepEqual(found.body.products.map(({ id }) => id), ["apples"]);
  assert.deepEqual((await get("/catalog?q=zeppelin")).body.products, []);
  const one = await get("/catalog/apples");
  assert.deepEqual(one.body, found.body.products[0]);
});

test("says what is wrong, with the trace", async () => {
  const missing = await get("/catalog/gold");
  assert.equal(missing.status, 404);
  assert.equal(missing.body.trace_id, TRACE);
  assert.equal((await get("/catalog/%zz")).status, 400);
  assert.equal((await fetch(`${url}/catalog`, { method: "DELETE" })).status, 405);
  while (!logs.some((line) => line.message === "GET /catalog/gold")) await once(service.stdout, "data");
  const line = logs.find((each) => each.message === "GET /catalog/gold");
  assert.deepEqual([line.trace_id, line.status], [TRACE, 404]);
});

test("leaves when asked to", async () => {
  service.kill("SIGTERM");
  assert.deepEqual(await once(service, "exit"), [0, null]);
});
