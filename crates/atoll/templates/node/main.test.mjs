// Run with: node --test
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { makeServer } from "./main.mjs";

const server = makeServer();
let base;

before(async () => {
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  base = `http://127.0.0.1:${server.address().port}`;
});

after(() => {
  server.close();
  server.closeAllConnections();
});

test("says hello", async () => {
  const body = await (await fetch(`${base}/SERVICE_NAME`)).json();
  assert.equal(body.hello, "from SERVICE_NAME");
});

test("is healthy", async () => {
  assert.equal((await fetch(`${base}/healthz`)).status, 200);
});
