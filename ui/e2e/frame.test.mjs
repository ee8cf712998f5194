// The frame: palette, keys, theme, menu on a phone, roles, pages that a node has not.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { axe, isMock, open, settled, shot, visit } from './browser.mjs';

let opened;
before(async () => {
  opened = await open();
});
after(() => opened.close());

test('the palette leads to pages, services and traces', async () => {
  const { page, errors } = await visit(opened);
  await page.goto('/');
  await settled(page);
  await page.keyboard.press('Control+k');
  await page.getByRole('combobox', { name: /Page, service/ }).fill('timel');
  await shot(page, 'palette-wide-light');
  assert.deepEqual(await axe(page), []);
  await page.keyboard.press('Enter');
  await page.waitForURL('**/timeline');
  const id = '4bf92f3577b34da6a3ce929d0e0e4736';
  await page.keyboard.press('Control+k');
  await page.getByRole('combobox', { name: /Page, service/ }).fill(`00-${id}-00f067aa0ba902b7-01`);
  await page.getByRole('option', { name: /^Trace 4bf9/ }).waitFor();
  await page.keyboard.press('Enter');
  await page.waitForURL(`**/traces/${id}`);
  await page.getByText('This trace is not kept').waitFor();
  assert.deepEqual(errors, []);
});

test('keys: g and a letter, /, ?, Escape', async () => {
  const { page } = await visit(opened);
  await page.goto('/');
  await settled(page);
  await page.keyboard.press('g');
  await page.keyboard.press('l');
  await page.waitForURL('**/logs');
  await settled(page);
  await page.keyboard.press('/');
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Search the logs');
  await page.keyboard.press('Tab');
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keys' }).waitFor();
  assert.deepEqual(await axe(page), []);
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
});

test('the theme can be chosen, and is kept', async () => {
  const { page } = await visit(opened);
  await page.goto('/');
  await settled(page);
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.locator('.who').first().click();
  await page.getByRole('menuitemradio', { name: 'Dark' }).click();
  assert.notEqual(await ground(), light);
  await page.reload();
  await settled(page);
  assert.notEqual(await ground(), light);
});

test('a phone has a drawer', async () => {
  const { page, errors } = await visit(opened, { size: 'phone' });
  await page.goto('/');
  await settled(page);
  await page.getByRole('button', { name: 'Menu' }).click();
  await shot(page, 'drawer-phone-light');
  assert.deepEqual(await axe(page), []);
  await page.getByRole('dialog', { name: 'Menu' }).getByRole('link', { name: 'Events' }).click();
  await page.waitForURL('**/events');
  await page.getByRole('dialog', { name: 'Menu' }).waitFor({ state: 'detached' });
  assert.deepEqual(errors, []);
});

test('nobody is told that all is well while a part of the node does not answer', { skip: !isMock() }, async () => {
  const { page } = await visit(opened);
  await page.route('**/v1/resilience', (route) => route.fulfill({ status: 500, contentType: 'application/problem+json', body: '{"title":"Internal Server Error","status":500,"detail":"the disk is full"}' }));
  await page.goto('/');
  await page.getByText('Not known: breakers and instances that are left out').waitFor();
  await page.getByText('the disk is full').first().waitFor();
  assert.equal(await page.getByText('All is well').count(), 0);
});

test('a viewer and an operator are refused on no page that they are shown', { skip: !isMock() }, async () => {
  for (const role of ['viewer', 'operator']) {
    const { page } = await visit(opened, { token: `mock-${role}` });
    const refused = [];
    page.on('response', (response) => response.status() === 403 && refused.push(response.url()));
    await page.goto('/');
    await settled(page);
    const links = await page.locator('.side .nav a').evaluateAll((all) => all.map((own) => own.getAttribute('href')));
    assert.ok(links.includes('/gateway'), links.join(' '));
    for (const link of links) {
      await page.goto(link);
      await settled(page);
    }
    assert.deepEqual(refused, [], role);
  }
});

test('a viewer is offered no change, an operator no tokens', { skip: !isMock() }, async () => {
  const viewer = await visit(opened, { token: 'mock-viewer' });
  await viewer.page.goto('/services/orders');
  await settled(viewer.page);
  assert.equal(await viewer.page.getByRole('button', { name: 'Restart' }).count(), 0);
  await viewer.page.goto('/events/dead');
  await settled(viewer.page);
  assert.equal(await viewer.page.getByRole('button', { name: /Redrive|Drop/ }).count(), 0);
  const operator = await visit(opened, { token: 'mock-operator' });
  await operator.page.goto('/access');
  await operator.page.getByText('This page is for admins').waitFor();
  assert.equal(await operator.page.getByRole('link', { name: 'Access' }).count(), 0);
});

test('a page that the node has not is not in the navigation', { skip: !isMock() }, async () => {
  const { page } = await visit(opened);
  await page.route('**/v1/openapi.json', (route) => route.fulfill({ json: { paths: { '/v1/services': {}, '/v1/topics': {} } } }));
  await page.goto('/');
  // Only the navigation's own: what is wrong now has links to the events, too.
  const nav = page.locator('.side .nav');
  // Before the page is there at all, no link is.
  await nav.getByRole('link', { name: 'Events' }).waitFor();
  await nav.getByRole('link', { name: 'Metrics' }).waitFor({ state: 'detached' });
  assert.deepEqual(await nav.locator('a').evaluateAll((all) => all.map((own) => own.getAttribute('href'))), ['/', '/events']);
});

test('a node that does not answer is told of, with what to do', { skip: !isMock() }, async () => {
  const { page } = await visit(opened);
  await page.route('**/v1/alerts', (route) => route.fulfill({ status: 500, contentType: 'application/problem+json', json: { title: 'Internal Server Error', status: 500, detail: 'the state is poisoned', code: 'ATL0901' } }));
  await page.goto('/alerts');
  await page.getByText('the state is poisoned').waitFor();
  await page.getByText('atoll explain ATL0901').waitFor();
  assert.deepEqual(await axe(page), []);
});
