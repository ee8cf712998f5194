// points: what loyal customers collect. A user's balance is the sum of all entries, and it is
// never stored: the journal (journal.mjs) is the truth, memory is only quick.
//
// Nobody calls this service to give points. It hears of orders, and orders doesn't know it is there.

import { join } from "node:path";
import { Journal } from "./journal.mjs";
import { log, Problem, serve } from "./web.mjs";

const faults = { failing: false };
const users = new Map(); // user -> { points, entries }
const path = join(process.env.DATA_DIR ?? ".", "points.jsonl");
const journal = await Journal.open(path, ({ user, delta, reason, at }) => {
  const account = users.get(user) ?? { points: 0, entries: [] };
  account.points += delta;
  account.entries.push({ delta, reason, at });
  users.set(user, account);
});

async function show({ parts: [user] }) {
  await journal.catchUp();
  const { points, entries } = users.get(user) ?? { points: 0, entries: [] };
  return { body: { user, points, entries: entries.slice(-20) } };
}

/**
 * The events `orders.placed` and `orders.cancelled`: {order, customer, points, ...}. Points come with
 * the first and go with the second (`sign`), once for each order, however often an event is sent.
 */
const credit = (sign, what) => async ({ body, trace_id }) => {
  if (faults.failing) throw new Problem(500, "points fails, because somebody asked for it at /faults/points");
  const { order, customer, points } = body ?? {};
  // 422 is final: the same event would be refused again. The platform puts it aside for a person.
  const refuse = (detail) => { throw new Problem(422, detail); };
  if (typeof order !== "string" || !order) refuse("`order` says which order it was, as a text");
  if (typeof customer !== "string" || !customer) refuse("`customer` says whose order it was, as a text");
  if (!Number.isInteger(points) || points < 0) refuse(`\`points\` is a whole number from 0, and not ${JSON.stringify(points)}`);
  const fact = { key: `${order}:${what}`, user: customer, delta: sign * points, reason: `order ${order} ${what}` };
  try {
    await journal.append({ ...fact, at: new Date().toISOString(), trace_id });
  } catch (error) {
    // After a failed write or fsync nobody knows what is on disk. Going on would be guessing; a
    // fresh process reads what is really there.
    log("error", "the journal cannot be written", { trace_id, error: error.message });
    process.exit(1);
  }
  return { body: { user: customer, points: users.get(customer)?.points ?? 0 } };
};

/** PUT /faults/points {failing}, for the tour. In memory: a fresh process is a healthy one. */
function setFaults({ body, trace_id }) {
  const { failing = false } = body ?? {};
  if (typeof failing !== "boolean") throw new Problem(422, "`failing` is true or false");
  faults.failing = failing;
  log("warn", "points behaves differently now", { trace_id, failing });
  return { body: faults };
}

serve([
  ["GET", /^\/healthz$/, () => ({ body: { status: "ok" } })],
  ["GET", /^\/points\/([^/]+)$/, show],
  ["POST", /^\/events\/order-placed$/, credit(+1, "placed")],
  ["POST", /^\/events\/order-cancelled$/, credit(-1, "cancelled")],
  ["GET", /^\/faults\/points$/, () => ({ body: faults })],
  ["PUT", /^\/faults\/points$/, setFaults],
]);
