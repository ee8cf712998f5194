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
  const url = `http://127.0.0.1:${JSON.parse(first).port}/points`;
  const post = (user, body) => fetch(`${url}/${user}`, { method: "POST", body: JSON.stringify(body) });
  const instance = {
    process: service,
    give: async (user, delta, key) => (await (await post(user, { delta, reason: "test", key })).json()).points,
    status: async (user, body) => (await post(user, body)).status,
    points: async (user) => (await (await fetch(`${url}/${user}`)).json()).points,
  };
  running.push(instance);
  return instance;
}

test("a key counts once", async () => {
  const points = await start();
  assert.equal(await points.points("ada"), 0);
  assert.equal(await points.give("ada", 15, "o1"), 15);
  assert.equal(await points.give("ada", 15, "o1"), 15);
  assert.equal(await points.give("ada", -5, "o2"), 10);
  assert.equal(await points.points("bob"), 0);
});

test("many at once are all counted", async () => {
  const points = await start();
  await Promise.all(Array.from({ length: 100 }, (_, n) => points.give("ada", 1, `o${n % 50}`)));
  assert.equal(await points.points("ada"), 50);
});

test("refuses what makes no sense", async () => {
  const points = await start();
  for (const body of [null, {}, { delta: 1.5, reason: "r", key: "k" }, { delta: 1, reason: "r", key: "" }]) {
    assert.equal(await points.status("ada", body), 422, JSON.stringify(body));
  }
});

test("what was acknowledged survives kill -9, and what a crash tore off does no harm", async () => {
  const first = await start();
  await first.give("ada", 15, "o1");
  first.process.kill("SIGKILL");
  await once(first.process, "exit");
  appendFileSync(join(folder, "points.jsonl"), '\n{"key":"o2","user":"ada","del');

  const second = await start();
  assert.equal(await second.points("ada"), 15);
  assert.equal(await second.give("ada", 5, "o2"), 20);
  const third = await start();
  assert.equal(await third.points("ada"), 20, readFileSync(join(folder, "points.jsonl"), "utf8"));
});

test("two instances, as during a deploy, tell the same", async () => {
  const [old, fresh] = [await start(), await start()];
  assert.equal(await old.give("ada", 10, "o1"), 10);
  assert.equal(await fresh.points("ada"), 10);
  await Promise.all([old.give("ada", 7, "o2"), fresh.give("ada", 7, "o2")]);
  assert.deepEqual([await old.points("ada"), await fresh.points("ada")], [17, 17]);
});

test("leaves when asked to", async () => {
  const points = await start();
  points.process.kill("SIGTERM");
  assert.deepEqual(await once(points.process, "exit"), [0, null]);
});
