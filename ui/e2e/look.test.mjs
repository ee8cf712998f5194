// Looking for a cause, as one does at night: logs, traces, metrics, the map. All on the mock.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { axe, isMock, open, settled, shot, visitAt } from './browser.mjs';

let opened;
before(async () => {
  opened = await open();
});
after(() => opened.close());

const only = { skip: !isMock() };

const at = (path, options) => visitAt(opened, path, options);

const lines = (page) => page.locator('.rows .log');

test('logs: typing searches, facets narrow, a mistake is named, the address has it all', only, async () => {
  const { page, errors } = await at('/logs');
  await page.getByRole('searchbox', { name: 'Search the logs' }).pressSequentially('panicked', { delay: 15 });
  await page.waitForURL('**q=panicked');
  await page.waitForFunction(() => [...document.querySelectorAll('.rows .log')].every((row) => row.textContent.includes('panicked')));
  assert.ok((await page.locator('.rows mark').count()) > 0);
  await page.getByRole('searchbox').fill('');
  await page.getByRole('button', { name: /^error/ }).click();
  await page.waitForURL('**level%3Aerror');
  await page.waitForFunction(() => document.querySelectorAll('.rows .log').length > 0 && document.querySelectorAll('.rows .log:not(.log-error)').length === 0);
  await page.reload();
  await settled(page);
  assert.equal(await page.getByRole('searchbox').inputValue(), 'level:error');
  await page.getByRole('searchbox').fill('"open');
  await page.getByText('a quote is not closed, at 1').waitFor();
  assert.ok((await lines(page).count()) > 0, 'the lines found before stay');
  assert.deepEqual(errors, []);
});

test('logs: a drag over the histogram chooses the span', only, async () => {
  const { page } = await at('/logs');
  const box = await page.locator('.u-over').boundingBox();
  await page.mouse.move(box.x + box.width * 0.5, box.y + 20);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.7, box.y + 20, { steps: 4 });
  await page.mouse.up();
  await page.waitForURL(/since=.*until=/);
  await page.goBack();
  assert.ok(!page.url().includes('since='));
});

test('logs: a line opened has its context and its trace', only, async () => {
  const { page, errors } = await at('/logs?q=level:error+bank');
  await lines(page).first().click();
  await page.getByRole('button', { name: 'Lines around it' }).click();
  await page.locator('.context .log-here').waitFor();
  assert.ok((await page.locator('.context li').count()) > 20);
  await shot(page, 'context-wide-light');
  // Whoever is given the address sees the same, also where the search does not.
  const around = new URL(page.url()).searchParams.get('around');
  await page.keyboard.press('Escape');
  await page.waitForURL((url) => !url.searchParams.has('around'));
  await page.goto(`/logs?q=nosuchword&around=${around}`);
  await page.locator('.context .log-here').waitFor();
  await page.getByRole('dialog').getByRole('button', { name: 'Close' }).click();
  await page.goto('/logs?q=order+placed');
  await settled(page);
  const rows = await lines(page).count();
  for (let at = 0; at < rows; at += 1) {
    await lines(page).nth(at).click();
    const link = page.getByRole('link', { name: 'Open its trace' });
    if (await link.count()) {
      await link.click();
      break;
    }
    await lines(page).nth(at).click();
  }
  await page.waitForURL(/traces\/[0-9a-f]{32}/);
  assert.deepEqual(errors, []);
});

test('logs: the tail comes on top, and waits while one reads', only, async () => {
  const { page, errors } = await at('/logs?live=1');
  await page.getByText('following').waitFor();
  const first = await lines(page).first().textContent();
  await page.waitForFunction((text) => document.querySelector('.rows .log').textContent !== text, first);
  await lines(page).nth(2).click();
  await page.getByRole('button', { name: /new lines/ }).waitFor();
  assert.deepEqual(errors, []);
});

test('lists are walked by arrows, j and k', only, async () => {
  const { page } = await at('/logs');
  await page.getByRole('region', { name: /Log lines/ }).focus();
  const place = () => page.evaluate(() => document.activeElement.closest('[data-index]')?.getAttribute('data-index'));
  for (const [key, wanted] of [['ArrowDown', '0'], ['j', '1'], ['ArrowDown', '2'], ['k', '1'], ['End', '199']]) {
    await page.keyboard.press(key);
    await page.waitForFunction((index) => document.activeElement.closest('[data-index]')?.getAttribute('data-index') === index, wanted);
  }
  assert.equal(await place(), '199');
  await page.keyboard.press('Enter');
  await page.waitForURL('**line=**');
});

test('hostile lines are shown, and do nothing', only, async () => {
  const { page, errors } = await at('/logs?q=basket');
  await lines(page).first().click();
  await page.locator('.detail').waitFor();
  assert.match(await page.locator('.detail-message').innerText(), /<script>/);
  assert.equal(await page.evaluate(() => document.querySelectorAll('main img, main script').length), 0);
  await page.goto('/logs?q=megabyte');
  await settled(page);
  await lines(page).first().click();
  await page.getByText(/more characters/).waitFor();
  assert.ok((await page.locator('.detail-message').innerText()).length < 70_000);
  await page.goto('/logs?q=agent');
  await settled(page);
  const text = await lines(page).first().innerText();
  assert.match(text, /ALERT +user agent with <U\+202E>/);
  assert.notEqual(await page.title(), 'owned');
  assert.deepEqual(errors, []);
});

test('10,000 lines scroll without a hitch, and all of them can be reached', only, async () => {
  const { page } = await at('/logs');
  const list = page.getByRole('region', { name: /Log lines/ });
  await page.waitForFunction(async () => {
    const box = document.querySelector('.rows');
    box.scrollTop = box.scrollHeight;
    return document.querySelector('li[aria-setsize]')?.getAttribute('aria-setsize') >= 10_000;
  }, undefined, { timeout: 60_000, polling: 50 });
  await list.evaluate((box) => {
    box.scrollTop = 0;
  });
  const slow = await page.evaluate(async () => {
    const box = document.querySelector('.rows');
    const times = [];
    let last = performance.now();
    for (let at = 0; at < 120; at += 1) {
      box.scrollTop += 900;
      await new Promise((resolve) => requestAnimationFrame(resolve));
      times.push(performance.now() - last);
      last = performance.now();
    }
    times.sort((a, b) => a - b);
    return { half: times[Math.floor(times.length * 0.5)], most: times[Math.floor(times.length * 0.95)] };
  });
  const rows = await lines(page).count();
  console.log(`    half of the frames took less than ${Math.round(slow.half)} ms, 95 of 100 less than ${Math.round(slow.most)} ms; rows in the document: ${rows}`);
  // The slowest frames are those in which the machine did something else.
  assert.ok(slow.half < 60, `${slow.half} ms`);
  assert.ok(rows < 120, `${rows} rows`);
});

test('traces: from the list to the waterfall, spans open and close, two are compared', only, async () => {
  const { page, errors } = await at('/traces?q=status:error');
  const boxes = page.locator('.trace-row input');
  await boxes.nth(0).check();
  await boxes.nth(1).check();
  await page.getByRole('link', { name: 'Compare the two' }).click();
  await page.getByRole('heading', { name: 'Two traces' }).waitFor();
  await page.goBack();
  await settled(page);
  await page.locator('.trace-link').first().click();
  await page.waitForURL(/traces\/[0-9a-f]{32}/);
  await settled(page);
  const before = await page.locator('.span-row').count();
  await page.locator('.twist[aria-expanded]').nth(1).click();
  await page.waitForFunction((count) => document.querySelectorAll('.span-row').length < count, before);
  await page.locator('.span-open-button').first().click();
  await page.locator('.detail').waitFor();
  assert.match(page.url(), /span=/);
  await shot(page, 'span-open-wide-light');
  assert.deepEqual(errors, []);
});

test('traces: a point of the scatter opens its trace', only, async () => {
  const { page } = await at('/traces?q=status:error&order=duration');
  const over = page.locator('.u-over');
  const box = await over.boundingBox();
  for (let x = box.width - 4; x > box.width * 0.5; x -= 6) {
    for (let y = 8; y < box.height; y += 10) {
      await over.hover({ position: { x, y }, force: true });
      if ((await over.evaluate((own) => own.style.cursor)) === 'pointer') {
        await over.click({ position: { x, y } });
        await page.waitForURL(/traces\/[0-9a-f]{32}/);
        return;
      }
    }
  }
  assert.fail('no point was found');
});

test('the map: a service is chosen by keys, and opened', only, async () => {
  const { page, errors } = await at('/map');
  await page.getByRole('button', { name: /^payments / }).first().focus();
  await page.keyboard.press('Enter');
  await page.getByRole('complementary', { name: 'Chosen' }).getByText('5.1 s').waitFor();
  await page.getByRole('link', { name: 'Open payments' }).click();
  await page.waitForURL('**/services/payments');
  await page.getByText('66 seconds after revision 9').waitFor();
  assert.deepEqual(errors, []);
});

test('metrics: by label, narrowed, alone; exemplars lead to traces', only, async () => {
  const { page, errors } = await at('/metrics');
  await page.getByRole('button', { name: /atoll_route_duration_seconds/ }).click();
  await page.getByRole('combobox', { name: 'Only this service' }).selectOption('orders');
  await page.waitForURL('**match=service%3Aorders**');
  await page.getByRole('button', { name: 'service:orders ×' }).waitFor();
  await page.getByRole('button', { name: 'p50' }).click();
  await page.waitForURL('**stat=p50**');
  await page.getByText(/Traces behind these numbers/).click();
  await page.locator('.exemplars a').first().click();
  await page.waitForURL(/traces\/[0-9a-f]{32}/);
  assert.deepEqual(errors, []);
});

test('a service shows its settings, where they are from, and no secret', only, async () => {
  const { page } = await at('/services/orders/limits');
  const row = (key) => page.getByRole('region', { name: 'Settings' }).getByRole('row', { name: key });
  assert.match(await row('request_timeout').innerText(), /30s\s+default/);
  assert.match(await row('resources.memory').innerText(), /256MiB\s+service\.toml/);
  assert.match(await row('env.BANK_KEY').innerText(), /not shown/);
});

test('gateway: an open breaker is red, one that the next call may close is not', only, async () => {
  const { page, errors } = await at('/gateway');
  const tone = (callee) => page.getByRole('listitem').filter({ hasText: `→ ${callee}` }).locator('.state').getAttribute('class');
  assert.match(await tone('payments'), /tone-bad/);
  assert.match(await tone('weather'), /tone-warn/);
  await page.getByText('half open', { exact: true }).waitFor();
  assert.deepEqual(errors, []);
});

test('the filter of services, pages of lists and partitions are in the address', only, async () => {
  const { page, errors } = await at('/?filter=pay');
  assert.equal(await page.getByLabel('Filter services').inputValue(), 'pay');
  await page.getByLabel('Filter services').fill('cata');
  await page.waitForURL(/filter=cata/);
  await page.goto('/events/jobs');
  await settled(page);
  const jobs = page.getByRole('region', { name: 'Jobs' }).locator('tbody tr');
  assert.equal(await jobs.count(), 100);
  const last = await jobs.last().locator('button').first().textContent();
  await page.getByRole('button', { name: 'Older' }).click();
  await page.waitForURL(/before=/);
  await settled(page);
  await page.reload();
  await settled(page);
  assert.equal(await jobs.count(), 60);
  assert.ok(!(await jobs.allTextContents()).some((text) => text.includes(last)), 'no job is on both pages');
  assert.equal(await page.getByRole('button', { name: 'Older' }).count(), 0);
  await page.getByRole('button', { name: 'Newest' }).click();
  await page.waitForURL((url) => !url.searchParams.has('before'));
  // Where nothing is left there is a way back.
  for (const path of ['/access/audit?before=1', '/services/payments/deploys?before=1']) {
    await page.goto(path);
    await page.getByText('There are no older ones').waitFor();
    await page.getByRole('button', { name: 'Newest' }).waitFor();
  }
  await page.goto('/events/topics/payments.settled?partitions=1');
  await settled(page);
  const rows = page.getByRole('region', { name: 'Partitions' }).locator('tbody tr');
  assert.equal(await rows.count(), 8);
  // The group and the subscription are behind in the second one alone.
  assert.deepEqual(await rows.nth(1).locator('.warn').allTextContents(), ['1,482', '24.1k']);
  assert.equal(await rows.nth(0).locator('.warn').count(), 0);
  await shot(page, 'partitions-wide-light');
  assert.deepEqual(await axe(page), []);
  assert.deepEqual(errors, []);
});
