// The keys, on a card.
import { Dialog, DialogDismiss, DialogHeading, type DialogStore } from '@ariakit/react';
import { PAGES } from './pages';

export function Help({ store }: { store: DialogStore }) {
  return (
    <Dialog store={store} className="dialog" backdrop={<div className="backdrop" />} unmountOnHide>
      <DialogHeading className="dialog-title">Keys</DialogHeading>
      <dl className="keys">
        <Key keys={['Ctrl', 'K']} does="Go to a page, a service or a trace (paste its id)" />
        <Key keys={['/']} does="Search on this page" />
        <Key keys={['↑', '↓']} does="Move in a list; also j and k" />
        <Key keys={['Enter']} does="Open what is chosen" />
        <Key keys={['Esc']} does="Close" />
        {PAGES.map((page) => (
          <Key key={page.path} keys={['g', page.key]} does={page.name} />
        ))}
      </dl>
      <div className="dialog-foot">
        <DialogDismiss className="btn">Close</DialogDismiss>
      </div>
    </Dialog>
  );
}

function Key({ keys, does }: { keys: string[]; does: string }) {
  return (
    <>
      <dt>
        {keys.map((key) => (
          <kbd key={key}>{key}</kbd>
        ))}
      </dt>
      <dd>{does}</dd>
    </>
  );
}
