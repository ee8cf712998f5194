// notices: a line for the top of the page, with the weather when there is some.
//
// The weather service is slow, and not ours. So this one has a time budget: it waits a moment, and
// then answers with what it has. The question isn't thrown away: it goes on in the background, and
// the next customer finds its answer.

import { readFileSync } from "node:fs";
import { log, serve } from "./web.mjs";

const notices = JSON.parse(readFileSync(new URL("notices.json", import.meta.url)));
const BUDGET_MS = Number(process.env.BUDGET_MS ?? 250); // what a notice may cost the page
const PATIENCE_MS = 5_000; // what the question may take in the background
const FRESH_MS = 60_000; // how long an answer holds

let known = null; // { weather, at }
let asking = null; // the question on its way: one is enough, however many wait for it

function ask({ traceparent, trace_id }) {
  asking ??= fetch(`${process.env.WEATHER_URL}/weather`, {
    headers: { traceparent }, // handed on unchanged: one trace
    signal: AbortSignal.timeout(PATIENCE_MS),
  })
    .then(async (response) => {
      if (!response.ok) throw new Error(`weather answered ${response.status}`);
      known = { weather: await response.json(), at: Date.now() };
    })
    .catch((error) => log("warn", "no weather", { trace_id, error: String(error.cause ?? error) }))
    .finally(() => (asking = null));
  return asking;
}

async function notice(call) {
  const age = known ? Date.now() - known.at : Infinity;
  if (age > FRESH_MS) {
    let timer;
    const budget = new Promise((resolve) => (timer = setTimeout(resolve, BUDGET_MS)));
    await Promise.race([ask(call), budget]);
    clearTimeout(timer);
  }
  const today = Math.floor(Date.now() / 86_400_000);
  return { body: { notice: notices[today % notices.length], weather: known?.weather ?? null } };
}

serve([
  ["GET", /^\/healthz$/, () => ({ body: { status: "ok" } })],
  ["GET", /^\/notice$/, notice],
]);
