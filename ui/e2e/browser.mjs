// A browser for the tests: Debian's Chromium, against the mock server, or against the node that
// ATOLL_CONSOLE names (with ATOLL_TOKEN). A test fails when the page's console shows an error.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { start } from '../mock/server.mjs';

const SHOTS = process.env.SHOTS ?? join(fileURLToPath(import.meta.url), '../../shots');
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
export const SIZES = { wide: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };
/** Whether the mock is looked at. Asked when it is needed: what names a real node may still be at it while this file is loaded. */
export const isMock = () => process.env.ATOLL_CONSOLE === undefined;

export async function open() {
  const executablePath = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser'].find((path) => path && existsSync(path));
  const mock = isMock() ? await start() : undefined;
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  const base = process.env.ATOLL_CONSOLE ?? mock.url;
  const close = async () => {
    await browser.close();
    await mock?.stop();
  };
  return { browser, base, mock, close };
}

/** A page of a size and theme, logged in. `errors` gathers what its console complains of. */
export async function visit({ browser, base }, { size = 'wide', theme = 'light', token = process.env.ATOLL_TOKEN ?? 'mock-admin', login = true } = {}) {
  const context = await browser.newContext({ viewport: SIZES[size], colorScheme: theme, baseURL: base, hasTouch: size === 'phone', ignoreHTTPSErrors: true });
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const page = await context.newPage();
  const errors = [];
  page.on('console', (message) => {
    // A browser reports every refused request by itself, without its path.
    if (message.type() === 'error' && !/Failed to load resource.*(401|400|404|422)/.test(message.text())) errors.push(message.text());
  });
  // Of a real node a test names those that it expects; of the mock, whose tests are about refusals, they are passed over.
  page.on('response', (answer) => {
    const refusal = `${answer.request().method()} ${answer.status()} ${new URL(answer.url()).pathname}`;
    if (!isMock() && answer.status() >= 400 && !errors.includes(refusal)) errors.push(refusal);
  });
  page.on('pageerror', (error) => errors.push(String(error)));
  if (login) {
    const answer = await page.request.post('/session', { data: { token } });
    if (!answer.ok()) throw new Error(`the token is refused: ${answer.status()}`);
  }
  return { page, errors, context };
}

/** The same, at a path, when all is loaded. */
export async function visitAt(opened, path, options) {
  const own = await visit(opened, options);
  await own.page.goto(path);
  await settled(own.page);
  return own;
}

/** Presses a button that asks first; `go` says yes, by the button of this name. */
export async function confirm(page, button, name) {
  await page.getByRole('button', { name: button, exact: typeof button === 'string' }).first().click();
  const dialog = page.getByRole('dialog');
  await dialog.waitFor();
  assert.deepEqual(await axe(page), []);
  return { dialog, go: () => dialog.getByRole('button', { name: name ?? button }).click() };
}

/** Waits until nothing is being loaded. */
export async function settled(page) {
  await page.waitForFunction(() => document.querySelector('main') !== null && document.querySelector('.loading') === null, undefined, { timeout: 10_000 });
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
}

export async function shot(page, name) {
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`), animations: 'disabled' });
}

/** What axe finds, each with the places. */
export async function axe(page) {
  // As a content script would: the page's own policy stays as it is.
  await page.evaluate(await readFile(AXE, 'utf8'));
  const found = await page.evaluate(async () => {
    const result = await globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] });
    return result.violations.map((own) => ({ id: own.id, help: own.help, nodes: own.nodes.slice(0, 4).map((node) => `${node.target.join(' ')}  ${node.failureSummary.split('\n').slice(1, 3).join(' ')}`) }));
  });
  return found;
}
