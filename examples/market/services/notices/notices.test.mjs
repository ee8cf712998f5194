// The real service on a free port, with a fake weather service that answers when told to.
// node --test

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import { createInterface } from "node:readline";
import { afterEach, test } from "node:test";

const TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
let weather, asked, service, url, logs;

async function start(budget) {
  asked = [];
  weather = http.createServer((request, response) => {
    asked.push(request.headers.traceparent);
    weather.emit("asked", response);
  });
  await once(weather.listen(0, "127.0.0.1"), "listening");
  const env = { ...process.env, HOST: "127.0.0.1", PORT: "0", BUDGET_MS: budget, WEATHER_URL: `http://127.0.0.1:${weather.address().port}` };
  service = spawn(process.execPath, ["main.mjs"], { cwd: new URL(".", import.meta.url), env, stdio: ["ignore", "pipe", "inherit"] });
  logs = createInterface({ input: service.stdout });
  const [first] = await once(logs, "line");
  logs.on("line", () => {}); // so that the pipe never fills up
  url = `http://127.0.0.1:${JSON.parse(first).port}/notice`;
}

afterEach(() => {
  service.kill("SIGKILL");
  weather.closeAllConnections();
  weather.close();
});

async function notice() {
  const response = await fetch(url, { headers: { traceparent: TRACEPARENT } });
  return [response.status, await response.json()];
}

test("brings the weather if it comes in time", async () => {
  await start("10000");
  weather.on("asked", (response) => response.end('{"sky":"clear"}'));
  const [status, body] = await notice();
  assert.equal(status, 200);
  assert.ok(body.notice);
  assert.deepEqual(body.weather, { sky: "clear" });
  await notice();
  assert.deepEqual(asked, [TRACEPARENT], "asked once, within the trace");
});

test("doesn't wait for slow weather, and has it the next time", async () => {
  await start("50");
  const question = once(weather, "asked");
  assert.equal((await notice())[1].weather, null);
  const [response] = await question;
  assert.equal((await notice())[1].weather, null, "still nothing");
  assert.equal(asked.length, 1, "one question for all who wait");
  response.end('{"sky":"fog"}');
  let body;
  do [, body] = await notice(); while (!body.weather); // until the answer has arrived
  assert.deepEqual(body.weather, { sky: "fog" });
  assert.equal(asked.length, 1);
});

test("does without broken weather", async () => {
  await start("10000");
  weather.on("asked", (response) => response.writeHead(500).end());
  const warned = once(logs, "line");
  const [status, body] = await notice();
  assert.deepEqual([status, body.weather], [200, null]);
  const line = JSON.parse((await warned)[0]);
  assert.deepEqual([line.level, line.trace_id], ["warn", TRACEPARENT.slice(3, 35)]);
});
