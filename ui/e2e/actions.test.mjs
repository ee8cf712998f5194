// Everything that changes something, on the mock: it asks first where it destroys, it tells what
// became of it, and a refusal is shown where it was asked for.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { axe, confirm, isMock, open, settled, shot, visitAt } from './browser.mjs';

let opened;
before(async () => {
  opened = await open();
});
after(() => opened.close());

const only = { skip: !isMock() };

const at = (path, options) => visitAt(opened, path, options);

for (const size of ['wide', 'phone']) {
  test(`restart, scale, roll back, ${size}`, only, async () => {
    const { page, errors } = await at('/services/catalog', { size });
    const restart = await confirm(page, 'Restart');
    await shot(page, `restart-${size}`);
    await page.keyboard.press('Escape');
    await restart.dialog.waitFor({ state: 'detached' });
    await (await confirm(page, 'Restart')).go();
    await page.getByText(/catalog: restart has begun/).waitFor();
    await page.getByText(/catalog: restart succeeded/).waitFor();
    await page.waitForTimeout(1600);
    const scale = await confirm(page, 'Scale');
    await scale.dialog.getByLabel('Instances').fill('9');
    await scale.go();
    await scale.dialog.getByRole('alert').getByText('may have 1 to 4 instances').waitFor();
    await scale.dialog.getByLabel('Instances').fill('3');
    await scale.go();
    await page.getByText(/catalog: scale has begun/).waitFor();
    await page.goto('/services/payments/deploys');
    await settled(page);
    await (await confirm(page, /Back to r/, 'Roll back')).go();
    await page.getByText(/payments: rollback has begun/).waitFor();
    assert.deepEqual(errors, []);
  });
}

test('dead letters: edit, redrive, drop', only, async () => {
  const { page, errors } = await at('/events/dead?group=g-422');
  await page.locator('.letter-open').first().click();
  const value = page.getByLabel('Value');
  await value.fill('{"total": 12.9');
  await page.getByText('looks like JSON').waitFor();
  await value.fill('{"total": 12.9}');
  await page.getByRole('button', { name: 'Save the edited copy' }).click();
  await page.getByLabel('Value (edited)').waitFor();
  await page.getByRole('button', { name: 'Redrive this one' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Redrive' }).click();
  await page.getByText('Over: 1 taken, 0 failed again').waitFor();
  await shot(page, 'redriven-wide-light');
  assert.deepEqual(await axe(page), []);
  await page.getByRole('dialog').getByRole('button', { name: 'Close' }).click();
  await page.getByRole('button', { name: 'Redrive all 4 of this group' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Redrive' }).click();
  await page.getByText('stopped, 1 not tried').waitFor();
  await page.getByRole('dialog').getByRole('button', { name: 'Close' }).click();
  await page.locator('.letter-row input').first().check();
  await (await confirm(page, 'Drop 1 chosen', 'Drop for good')).go();
  await page.getByText('1 letter dropped').waitFor();
  await page.getByRole('button', { name: 'Drop all 3 of this group' }).waitFor();
  assert.deepEqual(errors, []);
});

test('readers, topics and jobs', only, async () => {
  const { page, errors } = await at('/events/readers');
  await (await confirm(page, 'Replay')).go();
  await page.getByText(/gets 1,284 records again/).waitFor();
  await page.goto('/events/topics/orders.placed?live=1');
  await page.locator('.record').first().click();
  await page.locator('.detail').waitFor();
  const publish = await confirm(page, 'Publish');
  await publish.dialog.getByLabel('Value').fill('{}');
  await publish.go();
  await page.getByText('offset 184203').waitFor();
  await page.goto('/events/jobs?state=failed');
  await settled(page);
  await page.getByRole('button', { name: 'Retry' }).first().click();
  await page.getByText('It is queued again').waitFor();
  await page.goto('/events/jobs?state=running');
  await settled(page);
  await (await confirm(page, 'Cancel', 'Cancel the job')).go();
  await page.getByText('It is cancelled').waitFor();
  assert.deepEqual(errors, []);
});

test('the cache is purged, keys are made and revoked', only, async () => {
  const { page, errors } = await at('/gateway');
  const purge = await confirm(page, 'Purge');
  await purge.dialog.getByLabel('Path').fill('weather');
  await purge.go();
  await purge.dialog.getByRole('alert').waitFor();
  await purge.dialog.getByLabel('What').selectOption('all');
  await purge.go();
  await page.getByText(/pages forgotten/).waitFor();
  const key = await confirm(page, 'New key', 'Make it');
  await key.dialog.getByLabel('Name').fill('robot');
  await key.go();
  await page.getByText('ak_new1_0123456789abcdef').waitFor();
  await (await confirm(page, 'Revoke')).go();
  await page.getByText(/is refused from now on/).waitFor();
  assert.deepEqual(errors, []);
});

test('tokens are made, shown once, revoked; alerts are silenced', only, async () => {
  const { page, errors } = await at('/access');
  const shown = page.getByRole('region', { name: 'Tokens, table' });
  await shown.getByRole('columnheader', { name: 'Last used' }).waitFor();
  await shown.getByRole('row', { name: /^ada admin/ }).getByText(/ago$|^now$/).waitFor();
  const token = await confirm(page, 'New token', 'Make it');
  await token.dialog.getByLabel('Name').fill('pager');
  await token.dialog.getByLabel('Role').selectOption('operator');
  await token.go();
  await page.getByText(/atl_tk-4/).waitFor();
  assert.deepEqual(await axe(page), []);
  await page.getByRole('button', { name: 'Copy it' }).click();
  await page.getByRole('button', { name: 'I have it' }).click();
  assert.equal(await page.getByText(/atl_tk-4/).count(), 0);
  await (await confirm(page, 'Revoke')).go();
  await page.getByText(/is refused from now on/).waitFor();
  await page.goto('/alerts');
  await settled(page);
  await (await confirm(page, 'Silence')).go();
  await page.getByText('Silenced for 1 h').waitFor();
  assert.deepEqual(errors, []);
});
