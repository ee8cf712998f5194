// points: what loyal customers collect. A user's balance is the sum of all entries, and it is
// never stored: the journal (journal.mjs) is the truth, memory is only quick.

import { join } from "node:path";
import { Journal } from "./journal.mjs";
import { log, Problem, serve } from "./web.mjs";

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

/** POST /points/{user} {delta, reason, key}: any number of requests with one key count once. */
async function give({ parts: [user], body, trace_id }) {
  const { delta, reason, key } = body ?? {};
  if (!Number.isInteger(delta)) throw new Problem(422, "`delta` is a whole number, negative to take points back");
  if (typeof reason !== "string" || typeof key !== "string" || !key) throw new Problem(422, "`reason` and `key` are texts");
  try {
    await journal.append({ key, user, delta, reason, at: new Date().toISOString(), trace_id });
  } catch (error) {
    // After a failed write or fsync nobody knows what is on disk. Going on would be guessing; a
    // fresh process reads what is really there.
    log("error", "the journal cannot be written", { trace_id, error: error.message });
    process.exit(1);
  }
  return { body: { user, points: users.get(user)?.points ?? 0 } };
}

serve([
  ["GET", /^\/healthz$/, () => ({ body: { status: "ok" } })],
  ["GET", /^\/points\/([^/]+)$/, show],
  ["POST", /^\/points\/([^/]+)$/, give],
]);
