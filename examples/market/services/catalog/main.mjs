// catalog: what the shop sells.
//
// The products are a file in this folder, so they are part of the revision: a new price is a
// deploy, and a wrong one is rolled back like any other mistake. For a catalog that changes once
// a week this beats a database: nothing to back up, nothing to migrate, and every instance has it
// in memory.

import { readFileSync } from "node:fs";
import { Problem, serve } from "./web.mjs";

const products = JSON.parse(readFileSync(new URL("products.json", import.meta.url)));
const byId = new Map(products.map((product) => [product.id, product]));

// A file that makes no sense must stop the start, not surprise a customer: an instance that never
// gets ready never gets traffic, and the old revision stays.
for (const { id, name, price_cents } of products) {
  if (!/^[\w-]+$/.test(id) || !name || !Number.isInteger(price_cents) || price_cents <= 0) {
    throw new Error(`products.json: not a product: ${JSON.stringify({ id, name, price_cents })}`);
  }
}
if (byId.size < products.length) throw new Error("products.json: an id occurs twice");

function search({ query }) {
  const words = (query.get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const has = ({ name, description }) => {
    const text = `${name} ${description}`.toLowerCase();
    return words.every((word) => text.includes(word));
  };
  return { body: { products: products.filter(has) } };
}

function one({ parts: [id] }) {
  const product = byId.get(id);
  if (!product) throw new Problem(404, "there is no such product");
  return { body: product };
}

serve(
  [
    ["GET", /^\/healthz$/, () => ({ body: { status: "ok" } })],
    ["GET", /^\/catalog\/?$/, search],
    ["GET", /^\/catalog\/([^/]+)$/, one],
  ],
  // Which revision answered: in a deploy one can watch the traffic move.
  { "x-revision": process.env.ATOLL_REVISION ?? "none" },
);
