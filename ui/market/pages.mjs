// Every page of a real node at both widths and in both themes: it shows something, its log is
// silent, nothing is wider than the screen, axe finds nothing. The pictures are kept, for people.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Shop, api, until } from './market.mjs';
import { axe, open, settled, shot, visit } from '../e2e/browser.mjs';
import { views } from '../e2e/views.mjs';

describe('pages', () => {
  let opened;
  let shown;
  before(async () => {
    const shop = await Shop.open();
    await shop.ordered('coffee', 2);
    for (const path of ['/catalog', '/notice', '/weather', '/legacy/products', '/nowhere']) await shop.ask('GET', path);
    await shop.bank({ fail_rate: 1 });
    await shop.order('coffee');
    await shop.bank({});
    opened = await open();
    shown = await placed();
  });
  after(() => opened.close());

  /** The general pages, and those of what is really there. */
  async function placed() {
    const failed = await until('a failed trace', async () => (await api('/v1/traces?q=status:error')).traces[0]);
    const orders = await until('two orders', async () => {
      const { traces } = await api('/v1/traces?q=name:POST*+service:orders');
      const whole = traces.filter((own) => own.services.length > 2);
      return whole.length > 1 && whole;
    });
    const { records } = await api('/v1/logs/search?q=level:error&limit=1');
    return {
      ...views(opened), 'logs-search': '/logs?q=level%3E%3Dwarn%20bank', 'logs-none': '/logs?q=nosuchword', 'logs-mistake': '/logs?q=%22open', 'logs-open': `/logs?q=level:error&line=${records[0].number}`,
      trace: `/traces/${orders[0].trace}`, 'trace-failed': `/traces/${failed.trace}`, 'trace-gone': `/traces/${'0'.repeat(31)}1`, compare: `/traces/compare?a=${orders[0].trace}&b=${orders[1].trace}`,
      service: '/services/payments', orders: '/services/orders', 'service-none': '/services/nobody', deploys: '/services/catalog/deploys', connections: '/services/orders/connections', limits: '/services/orders/limits',
      'map-chosen': '/map?at=payments', 'metrics-one': '/metrics?name=atoll_route_duration_seconds&by=service', topic: '/events/topics/orders.placed',
    };
  }

  /** What a page of something that does not exist, or of a mistake, is refused. */
  const refused = { 'logs-mistake': /^GET 400 \/v1\/logs\//, 'service-none': /^GET 404 \/v1\/(services|why)\/nobody/ };

  for (const [size, theme] of [['wide', 'light'], ['phone', 'dark'], ['wide', 'dark'], ['phone', 'light']]) {
    test(`all pages of the market, ${size}, ${theme}`, async (t) => {
      const { page, errors, context } = await visit(opened, { size, theme });
      for (const [name, path] of Object.entries(shown)) {
        await t.test(name, async () => {
          errors.length = 0;
          await page.goto(path);
          await settled(page);
          await shot(page, `${name}-${size}-${theme}`);
          assert.ok((await page.locator('main').innerText()).trim().length > 10, 'the page shows something');
          assert.equal(await page.getByText('This page has broken').count(), 0);
          assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing is wider than the screen');
          assert.deepEqual(await axe(page), []);
          assert.deepEqual(errors.filter((own) => !refused[name]?.test(own)), []);
        });
      }
      await context.close();
    });
  }
});
