// The market that runs in the folder MARKET, started by the program ATOLL: its shop, its command
// line, and a browser that is logged in to its console. Imported before ../e2e/browser.mjs, which
// asks the environment where the console is.
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, cp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { setTimeout } from 'node:timers/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const { ATOLL, MARKET } = process.env;
if (!ATOLL || !MARKET) throw new Error('ATOLL is the program, MARKET the folder of a market that it runs');
const PATIENCE_MS = 60_000;

/** What a command prints. */
export async function terminal(...words) {
  const { stdout } = await promisify(execFile)(ATOLL, ['-C', MARKET, ...words], { maxBuffer: 1 << 26 });
  return stdout;
}

export const atoll = async (...words) => JSON.parse(await terminal('--json', ...words));

const { node } = await atoll('ps');
process.env.ATOLL_CONSOLE ??= node.console;
process.env.ATOLL_TOKEN ??= (await atoll('token', 'create', 'browser', '--role', 'admin')).token;
process.env.SHOTS ??= fileURLToPath(new URL('../../target/screenshots/', import.meta.url));

/** The link that logs a browser in, once. */
export async function link() {
  const { url } = await atoll('console');
  return url.replace(node.console, process.env.ATOLL_CONSOLE);
}

export async function api(path) {
  const answer = await fetch(process.env.ATOLL_CONSOLE + path, { headers: { Authorization: `Bearer ${process.env.ATOLL_TOKEN}` } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

export async function until(what, look) {
  const end = performance.now() + PATIENCE_MS;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (performance.now() > end) throw new Error(`in vain waited for ${what}`);
    // Ten looks a second: the processors are for what is looked at.
    await setTimeout(100);
  }
}

export class Shop {
  /** Ada is logged in. */
  static async open() {
    const shop = new Shop();
    const { token } = await (await shop.ask('POST', '/login', { email: 'ada@example.com', password: 'correct-horse' })).json();
    shop.token = token;
    shop.ada = (await (await shop.ask('GET', '/user')).json()).id;
    return shop;
  }

  ask(method, path, body) {
    const headers = { ...(this.token && { Authorization: `Bearer ${this.token}` }), ...(method === 'POST' && { 'Idempotency-Key': randomUUID() }) };
    return fetch(node.edge + path, { method, headers, ...(body && { body: JSON.stringify(body) }) });
  }

  order(product = 'apples', quantity = 1) {
    return this.ask('POST', '/orders', { lines: [{ product, quantity }], token: 'tok_visa' });
  }

  /** Until it works: whoever stopped calling a service may take a moment to trust it again. */
  ordered(product, quantity) {
    return until(`an order of ${product}`, async () => (await this.order(product, quantity)).status === 201);
  }

  async bank(faults) {
    const answer = await this.ask('PUT', '/faults', faults);
    if (answer.status !== 200) throw new Error(`the bank: ${answer.status}`);
  }

  /** An event that `points` cannot read: a dead letter soon. */
  unreadable(order = randomUUID()) {
    return JSON.stringify({ order, customer: this.ada, points: 'fifty' });
  }
}

/** A folder of the catalog, in which apples have another name. */
export async function changedCatalog() {
  const folder = await mkdtemp(join(tmpdir(), 'atoll-catalog-'));
  await cp(join(MARKET, 'services/catalog'), folder, { recursive: true });
  const file = join(folder, 'products.json');
  const products = JSON.parse(await readFile(file, 'utf8'));
  products.find(({ id }) => id === 'apples').name = `Apples ${randomUUID().slice(0, 8)}`;
  await writeFile(file, JSON.stringify(products));
  return folder;
}

/** Another revision of the catalog. */
export async function renameApples() {
  const folder = await changedCatalog();
  try {
    return await atoll('deploy', 'catalog', folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}
