// Every page at both widths and in both themes: it shows something, its console is silent, nothing
// is wider than the screen, and axe finds nothing.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { axe, open, settled, shot, visit } from './browser.mjs';
import { views } from './views.mjs';

let opened;
before(async () => {
  opened = await open();
});
after(() => opened.close());

for (const [size, theme] of [['wide', 'light'], ['phone', 'dark'], ['wide', 'dark'], ['phone', 'light']]) {
  test(`all pages, ${size}, ${theme}`, async (t) => {
    const { page, errors, context } = await visit(opened, { size, theme });
    for (const [name, path] of Object.entries(views(opened))) {
      await t.test(name, async () => {
        errors.length = 0;
        await page.goto(path);
        await settled(page);
        await shot(page, `${name}-${size}-${theme}`);
        assert.ok((await page.locator('main').innerText()).trim().length > 10, 'the page shows something');
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is wider than the screen');
        assert.deepEqual(await axe(page), []);
        assert.deepEqual(errors, []);
      });
    }
    await context.close();
  });
}

test('login: a wrong token is refused, a right one leads to the page that was wanted', async () => {
  const { page, errors } = await visit(opened, { login: false });
  await page.goto('/timeline');
  await page.getByLabel('Token').fill('wrong');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('alert').waitFor();
  assert.deepEqual(await axe(page), []);
  await shot(page, 'login-wide-light');
  await page.getByLabel('Token').fill(process.env.ATOLL_TOKEN ?? 'mock-admin');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Timeline' }).waitFor();
  await page.getByRole('button', { name: 'admin' }).click();
  await page.getByRole('menuitem', { name: 'Log out' }).click();
  await page.getByLabel('Token').waitFor();
  assert.deepEqual(errors, []);
});

test('the first paint takes less than a second, from nothing', async () => {
  const times = [];
  for (let round = 0; round < 3; round += 1) {
    const { page } = await visit(opened);
    await page.goto('/');
    await settled(page);
    times.push(await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime));
  }
  console.log(`    painted after ${times.map(Math.round).join(', ')} ms`);
  // What the page takes: the others are those in which the machine did something else.
  assert.ok(Math.min(...times) < 1000, `${times} ms`);
});
