// Everything that changes something, on a real node: it asks first, it tells what became of it, and
// the node has done it.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { rm } from 'node:fs/promises';
import { Shop, api, atoll, changedCatalog, link, renameApples, terminal, until } from './market.mjs';
import { axe, confirm, open, settled, shot, visit, visitAt } from '../e2e/browser.mjs';

describe('actions', () => {
  let opened;
  let shop;
  before(async () => {
    opened = await open();
    shop = await Shop.open();
  });
  after(() => opened.close());

  const at = (path, options) => visitAt(opened, path, options);

  const catalog = () => api('/v1/services/catalog');

  for (const [size, theme] of [['wide', 'light'], ['phone', 'dark']]) {
    const look = { size, theme };
    const named = (name) => `${name}-${size}-${theme}`;

    test(`a link logs in, once, ${size}`, async () => {
      const { page, errors, context } = await visit(opened, { ...look, login: false });
      const url = await link();
      await page.goto(url);
      await page.getByRole('heading', { name: 'Services' }).waitFor();
      assert.ok(!page.url().includes('token'), 'the token has left the address');
      assert.deepEqual(errors, []);
      await context.close();
      const again = await visit(opened, { ...look, login: false });
      await again.page.goto(url);
      await again.page.getByRole('alert').waitFor();
      assert.deepEqual(again.errors, ['POST 401 /session']);
      assert.deepEqual(await axe(again.page), []);
      await shot(again.page, named('login'));
      await again.context.close();
    });

    test(`restart and scale, ${size}`, async () => {
      const { page, errors, context } = await at('/services/catalog', look);
      const before = (await catalog()).instances.map((own) => own.pid);
      const restart = await confirm(page, 'Restart');
      await shot(page, named('restart'));
      await restart.go();
      await page.getByText(/catalog: restart succeeded/).waitFor();
      assert.ok((await catalog()).instances.every((own) => !before.includes(own.pid)), 'other processes');
      const scale = await confirm(page, 'Scale');
      await scale.dialog.getByLabel('Instances').fill('9');
      await scale.go();
      await scale.dialog.getByRole('alert').getByText('1 to 4 instances').waitFor();
      await scale.dialog.getByLabel('Instances').fill('2');
      await scale.go();
      await page.getByText(/catalog: scale succeeded/).waitFor();
      await page.getByText('2 of 2 serve').waitFor();
      await atoll('scale', 'catalog', '1');
      assert.deepEqual(errors, ['POST 422 /v1/services/catalog/deployments']);
      await context.close();
    });

    test(`a deployment is rolled back, ${size}`, async () => {
      await renameApples();
      const { page, errors, context } = await at('/services/catalog/deploys', look);
      const wrong = (await catalog()).revision;
      await (await confirm(page, /^Back to r/, 'Roll back')).go();
      await page.getByText(/catalog: rollback succeeded/).waitFor();
      assert.notEqual((await catalog()).revision, wrong);
      await shot(page, named('rolled-back'));
      assert.deepEqual(errors, []);
      await context.close();
    });

    test(`a folder is deployed, and the service rolled back to what served before, ${size}`, async () => {
      const { page, errors, context } = await at('/services/catalog', look);
      const served = (await catalog()).revision;
      const deploy = await confirm(page, 'Deploy');
      await deploy.dialog.getByLabel('Folder').fill('/nowhere');
      await deploy.go();
      await deploy.dialog.getByRole('alert').getByText(/nowhere/).waitFor();
      await deploy.dialog.getByRole('button', { name: 'Cancel' }).click();
      const folder = await changedCatalog();
      try {
        const again = await confirm(page, 'Deploy');
        await again.dialog.getByLabel('Folder').fill(folder);
        await again.dialog.getByLabel('Why').fill('another name for apples');
        await again.go();
        await page.getByText(/catalog: deploy succeeded/).waitFor();
      } finally {
        await rm(folder, { recursive: true });
      }
      assert.notEqual((await catalog()).revision, served);
      await (await confirm(page, 'Roll back')).go();
      await page.getByText(/catalog: rollback succeeded/).waitFor();
      await until('the revision before', async () => (await catalog()).revision === served);
      await page.goto('/services/catalog/deploys');
      await settled(page);
      await page.getByText('another name for apples').first().waitFor();
      assert.deepEqual(errors, ['POST 422 /v1/services/catalog/deployments']);
      await context.close();
    });

    test(`an alert is silenced and told again, ${size}`, async () => {
      // What the bank broke, in the test of the cause, burns for a while.
      const { page, errors, context } = await at('/alerts', look);
      const alert = page.locator('.alert').filter({ has: page.getByRole('button', { name: 'Silence' }) }).first();
      const id = async (silenced) => (await api('/v1/alerts')).find((own) => (own.silenced_until !== null) === silenced)?.id;
      await alert.waitFor();
      await alert.getByRole('button', { name: 'Silence' }).click();
      const dialog = page.getByRole('dialog');
      await dialog.getByLabel('For').selectOption('4');
      assert.deepEqual(await axe(page), []);
      await dialog.getByRole('button', { name: 'Silence' }).click();
      await page.getByText('Silenced for 4 h').waitFor();
      const silent = await until('the silence', () => id(true));
      await shot(page, named('silenced'));
      await (await confirm(page, 'End silence', 'End it')).go();
      await page.getByText('Told again').waitFor();
      const still = (await api('/v1/alerts')).find((own) => own.id === silent);
      assert.equal(still?.silenced_until, null);
      assert.deepEqual(errors, []);
      await context.close();
    });

    test(`a job that failed is retried, one that waits is cancelled, ${size}`, async () => {
      const ask = async (query) => JSON.parse(await (await shop.ask('POST', `/chores${query}`)).text()).id;
      const state = async (job) => (await api(`/v1/jobs/${job}`)).state;
      const fails = await ask('');
      await until('a failed job', async () => (await state(fails)) === 'failed');
      const waits = await ask('?delay=1h');
      const { page, errors, context } = await at('/events/jobs', look);
      const row = (job) => page.getByRole('row').filter({ hasText: job.slice(-8) });
      await row(fails).getByRole('button', { name: fails.slice(-8) }).click();
      await page.getByText(fails, { exact: true }).waitFor();
      await shot(page, named('jobs'));
      assert.deepEqual(await axe(page), []);
      await row(fails).getByRole('button', { name: 'Retry' }).click();
      await page.getByText('It is queued again').waitFor();
      await until('its end', async () => (await state(fails)) === 'done');
      await row(waits).getByRole('button', { name: 'Cancel' }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'Cancel the job' }).click();
      await page.getByText('It is cancelled').waitFor();
      assert.equal(await state(waits), 'cancelled');
      assert.deepEqual(errors, []);
      await context.close();
    });

    test(`a record is published; a dead letter is edited and redriven, another dropped, ${size}`, async () => {
      const { page, errors, context } = await at('/events/topics/orders.placed', look);
      const [order, other] = [randomUUID(), randomUUID()];
      for (const value of [shop.unreadable(order), shop.unreadable(other)]) {
        const publish = await confirm(page, 'Publish');
        await publish.dialog.getByLabel('Value').fill(value);
        await publish.go();
        await publish.dialog.waitFor({ state: 'detached' });
      }
      const dead = async () => (await api('/v1/dead')).letters.filter((own) => own.value.includes(order) || own.value.includes(other));
      await until('two dead letters', async () => (await dead()).length === 2);
      await page.goto('/events/dead');
      await settled(page);
      await page.locator('.letter-row').filter({ hasText: order }).locator('.letter-open').click();
      await page.locator('.letter').getByText('not "fifty"').first().waitFor();
      const value = page.getByLabel('Value');
      await value.fill((await value.inputValue()).replace('"fifty"', '50'));
      await page.getByRole('button', { name: 'Save the edited copy' }).click();
      await page.getByLabel('Value (edited)').waitFor();
      await shot(page, named('letter-edited'));
      await page.getByRole('button', { name: 'Redrive this one' }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'Redrive' }).click();
      await page.getByText('Over: 1 taken, 0 failed again').waitFor();
      await shot(page, named('redriven'));
      assert.deepEqual(await axe(page), []);
      await page.getByRole('dialog').getByRole('button', { name: 'Close' }).click();
      await page.locator('.letter-row').filter({ hasText: other }).getByRole('checkbox').check();
      await (await confirm(page, 'Drop 1 chosen', 'Drop for good')).go();
      await page.getByText('1 letter dropped').waitFor();
      assert.deepEqual(await dead(), []);
      assert.deepEqual(errors, []);
      await context.close();
    });

    test(`events are delivered again, and the cache is purged, ${size}`, async () => {
      await shop.ordered('honey', 1);
      const { page, errors, context } = await at('/events/readers', look);
      const row = page.getByRole('row').filter({ hasText: 'orders.placed' });
      await row.getByRole('button', { name: 'Replay' }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'Replay' }).click();
      await page.getByText(/points gets \d+ records? again/).waitFor();
      await page.goto('/gateway');
      await settled(page);
      const purge = await confirm(page, 'Purge');
      await purge.dialog.getByLabel('Path').fill('weather');
      await purge.go();
      await purge.dialog.getByRole('alert').waitFor();
      await purge.dialog.getByLabel('What').selectOption('all');
      await purge.go();
      await page.getByText(/pages? forgotten/).waitFor();
      assert.deepEqual(errors, ['POST 422 /v1/cache/purge']);
      await context.close();
    });

    test(`keys and tokens are made, shown once, revoked, ${size}`, async () => {
      const { page, errors, context } = await at('/gateway', look);
      const key = await confirm(page, 'New key', 'Make it');
      await key.dialog.getByLabel('Name').fill(`robot-${size}`);
      await key.go();
      await page.locator('.secret').waitFor();
      await page.getByRole('button', { name: 'I have it' }).click();
      await (await confirm(page, 'Revoke')).go();
      await page.getByText(/is refused from now on/).first().waitFor();
      await page.goto('/access');
      await settled(page);
      const name = `pager-${size}`;
      const token = await confirm(page, 'New token', 'Make it');
      await token.dialog.getByLabel('Name').fill(name);
      await token.dialog.getByLabel('Role').selectOption('operator');
      await token.go();
      const secret = await page.locator('.secret code').innerText();
      await shot(page, named('token-made'));
      const asked = () => fetch(`${process.env.ATOLL_CONSOLE}/v1/node`, { headers: { Authorization: `Bearer ${secret}` } });
      assert.equal((await asked()).status, 200);
      await page.getByRole('button', { name: 'I have it' }).click();
      assert.equal(await page.getByText(secret).count(), 0);
      await page.getByRole('row').filter({ hasText: name }).getByRole('button', { name: 'Revoke' }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
      await page.getByText(new RegExp(`${name} is refused from now on`)).waitFor();
      assert.equal((await asked()).status, 401);
      await page.goto('/access/audit');
      await settled(page);
      await page.getByText(/^POST \/v1\/tokens\/.*\/revoke$/).first().waitFor();
      await page.getByText(`take back the token of ${name}, operator`).waitFor();
      await page.getByText(/^scale to 2 instances/).first().waitFor();
      await shot(page, named('audit'));
      assert.deepEqual(errors, []);
      await context.close();
    });

    test(`hostile lines do nothing, in the console and in the terminal, ${size}`, async () => {
      assert.equal((await shop.ask('POST', '/chores/hostile')).status, 200);
      const found = async () => (await api('/v1/logs/search?q=service:chores+hostile&limit=20')).records.length;
      await until('the lines', async () => (await found()) >= 3);
      const { page, errors, context } = await at('/logs?q=service:chores%20hostile', look);
      for (const words of ['hostile html', 'hostile escapes', 'hostile megabyte']) {
        await page.locator('.rows .log').filter({ hasText: words }).first().waitFor();
      }
      await shot(page, named('hostile'));
      await page.locator('.rows .log').filter({ hasText: 'hostile html' }).first().click();
      await page.locator('.detail').getByText('<script>').first().waitFor();
      assert.equal(await page.locator('main img, main script').count(), 0);
      assert.doesNotMatch(await page.title(), /taken over/);
      assert.deepEqual(await axe(page), []);
      assert.deepEqual(errors, []);
      const told = await terminal('logs', 'chores', '--grep', 'hostile', '--color', 'always');
      assert.match(told, /hostile escapes/);
      // Colors of our own are there; nothing that a line has brought.
      assert.ok(!told.includes('\u001b]') && !told.includes('\u001b[2J') && !told.includes('\u0007'), told.slice(0, 2000));
      await context.close();
    });

    test(`a call that says nothing of its request is marked as inferred, ${size}`, async () => {
      const asked = await shop.ask('POST', '/chores/through');
      assert.equal(asked.status, 200);
      const [trace] = await until('the trace', async () => {
        const { traces } = await api('/v1/traces?q=service:chores&limit=20');
        const whole = traces.filter((own) => own.services.includes('catalog'));
        return whole.length > 0 && whole;
      });
      const { page, errors, context } = await at(`/traces/${trace.trace}`, look);
      await page.locator('.span-row').filter({ hasText: 'inferred' }).first().waitFor();
      await page.getByText('inferred: Atoll has seen the call').waitFor();
      await shot(page, named('inferred'));
      assert.deepEqual(await axe(page), []);
      assert.deepEqual(errors, []);
      await context.close();
    });

    test(`a curve shows when something was deployed, ${size}`, async () => {
      const { page, errors, context } = await at('/metrics?name=atoll_route_requests_total&stat=rate', look);
      const chart = page.locator('.u-over').first();
      await chart.waitFor();
      const box = await chart.boundingBox();
      const tip = page.locator('.chart-tip').first();
      const seen = new Set();
      for (let x = 1; x < box.width; x += 3) {
        await page.mouse.move(box.x + x, box.y + box.height / 2);
        for (const note of (await tip.innerText()).split('\n')) seen.add(note);
      }
      assert.ok([...seen].some((note) => /^catalog: deployment \d+: done/.test(note)), [...seen].join(' | '));
      assert.deepEqual(errors, []);
      await context.close();
    });

    test(`the tail follows, ${size}`, async () => {
      const { page, errors, context } = await at('/logs?q=service:orders&live=1', look);
      await page.getByText('following').waitFor();
      await shop.ordered('coffee', 1);
      await page.locator('.rows .log').filter({ hasText: 'POST /orders' }).first().waitFor();
      await page.goto('/logs');
      await settled(page);
      await page.getByLabel('Search the logs').fill('"open');
      await page.getByText(/, at |at character|character 1/).first().waitFor();
      assert.ok(errors.length > 0 && errors.every((own) => /^GET 400 \/v1\/logs\//.test(own)), errors.join());
      await context.close();
    });
  }
});
