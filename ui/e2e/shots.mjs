// Pictures of pages, to be looked at: `node e2e/shots.mjs [part of a name]`, in both widths and themes.
import { open, settled, shot, visit } from './browser.mjs';
import { views } from './views.mjs';

const only = process.argv[2] ?? '';
const opened = await open();
for (const size of ['wide', 'phone']) {
  for (const theme of ['light', 'dark']) {
    const { page, context } = await visit(opened, { size, theme });
    for (const [name, path] of Object.entries(views(opened))) {
      if (!name.includes(only)) continue;
      await page.goto(path);
      await settled(page);
      await shot(page, `${name}-${size}-${theme}`);
    }
    await context.close();
  }
}
await opened.close();
