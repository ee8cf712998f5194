// The real service on a free port, with a folder of its own. node --test

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, test } from "node:test";

let folder, running;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "points-"));
  running = [];
});

afterEach(() => {
  for (const { process } of running) process.kill("SIGKILL");
  rmSync(folder, { recursive: true });
});

async function start() {
  const env = { ...process.env, HOST: "127.0.0.1", PORT: "0", DATA_DIR: folder };
  const service = spawn(process.execPath, ["main.mjs"], { cwd: new URL(".", import.meta.url), env, stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: service.stdout });
  const [first] = await once(lines, "line");
  lines.on("line", () => {}); // so that the pipe never fills up
  const url = `http://127.0.0.1:${JSON.parse(first).port}`;
  const send = (method, path, body) => fetch(url + path, { method, body: JSON.stringify(body) });
  const instance = {
    process: service,
    event: (what, body) => send("POST", `/events/order-${what}`, body),
    place: async (customer, points, order) => (await (await instance.event("placed", { order, customer, points })).json()).points,
    cancel: async (customer, points, order) => (await (await instance.event("cancelled", { order, customer, points })).json()).points,
    break: async (body) => (await send("PUT", "/faults/points", body)).status,
    points: async (user) => (await (await fetch(`${url}/points/${user}`)).json()).points,
  };
  running.push(instance);
  return instance;
}

test("an order counts once, and so does its cancellation", async () => {
  const points = await start();
  assert.equal(await points.points("ada"), 0);
  assert.equal(await points.place("ada", 15, "o1"), 15);
  assert.equal(await points.place("ada", 15, "o1"), 15);
  assert.equal(await points.place("ada", 5, "o2"), 20);
  assert.equal(await points.cancel("ada", 15, "o1"), 5);
  assert.equal(await points.cancel("ada", 15, "o1"), 5);
  assert.equal(await points.points("bob"), 0);
});

test("a cancellation that overtakes its order comes to the same", async () => {
  const points = await start();
  assert.equal(await points.cancel("ada", 15, "o1"), -15);
  assert.equal(await points.place("ada", 15, "o1"), 0);
});

test("many at once are all counted", async () => {
  const points = await start();
  await Promise.all(Array.from({ length: 100 }, (_, n) => points.place("ada", 1, `o${n % 50}`)));
  assert.equal(await points.points("ada"), 50);
});

test("refuses for good what it cannot read", async () => {
  const points = await start();
  const good = { order: "o", customer: "ada", points: 1 };
  const bad = [{ order: 7 }, { order: "" }, { customer: null }, { points: "fifty" }, { points: 1.5 }, { points: -1 }];
  for (const body of [null, ...bad.map((each) => ({ ...good, ...each }))]) {
    const answer = await points.event("placed", body);
    assert.equal(answer.status, 422, JSON.stringify(body));
  }
  const { detail } = await (await points.event("placed", { ...good, points: "fifty" })).json();
  assert.equal(detail, '`points` is a whole number from 0, and not "fifty"');
});

test("fails while it is told to, and counts nothing meanwhile", async () => {
  const points = await start();
  assert.equal(await points.break({ failing: "yes" }), 422);
  assert.equal(await points.break({ failing: true }), 200);
  const event = { order: "o1", customer: "ada", points: 3 };
  assert.equal((await points.event("placed", event)).status, 500);
  assert.equal(await points.points("ada"), 0);
  assert.equal(await points.break({}), 200);
  assert.equal(await points.place("ada", 3, "o1"), 3);
});

test("what was acknowledged survives kill -9, and what a crash tore off does no harm", async () => {
  const first = await start();
  await first.place("ada", 15, "o1");
  first.process.kill("SIGKILL");
  await once(first.process, "exit");
  appendFileSync(join(folder, "points.jsonl"), '\n{"key":"o2:placed","user":"ada","del');

  const second = await start();
  assert.equal(await second.points("ada"), 15);
  assert.equal(await second.place("ada", 5, "o2"), 20);
  const third = await start();
  assert.equal(await third.points("ada"), 20, readFileSync(join(folder, "points.jsonl"), "utf8"));
});

test("two instances, as during a deploy, tell the same", async () => {
  const [old, fresh] = [await start(), await start()];
  assert.equal(await old.place("ada", 10, "o1"), 10);
  assert.equal(await fresh.points("ada"), 10);
  await Promise.all([old.place("ada", 7, "o2"), fresh.place("ada", 7, "o2")]);
  assert.deepEqual([await old.points("ada"), await fresh.points("ada")], [17, 17]);
});

test("leaves when asked to", async () => {
  const points = await start();
  points.process.kill("SIGTERM");
  assert.deepEqual(await once(points.process, "exit"), [0, null]);
});
