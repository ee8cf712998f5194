// Ctrl/Cmd-K: pages, services and what can be looked at of them, and a trace whose id is pasted.
import { Combobox, ComboboxItem, ComboboxList, ComboboxProvider, Dialog, type DialogStore } from '@ariakit/react';
import { startTransition, useMemo, useState } from 'react';
import { choices } from '../lib/palette';
import { useLive } from './live';
import type { Page } from './pages';
import { go } from './router';

export function Palette({ store, pages }: { store: DialogStore; pages: Page[] }) {
  const [typed, setTyped] = useState('');
  const { services } = useLive();
  const found = useMemo(() => choices(typed, pages, (services ?? []).map((own) => own.name)), [typed, pages, services]);
  return (
    <Dialog store={store} className="palette" aria-label="Go to" backdrop={<div className="backdrop" />} unmountOnHide>
      <ComboboxProvider open setInputValue={(value) => startTransition(() => setTyped(value))}>
        <Combobox autoSelect="always" placeholder="Page, service, or a trace id" aria-label="Page, service, or a trace id" />
        <ComboboxList className="palette-list" alwaysVisible aria-label="Places">
          {found.map((choice) => (
            <ComboboxItem
              key={choice.to}
              className="palette-item"
              hideOnClick={false}
              focusOnHover
              onClick={() => {
                store.hide();
                setTyped('');
                go(choice.to);
              }}
            >
              {choice.name} <span className="dim">{choice.hint}</span>
            </ComboboxItem>
          ))}
          {found.length === 0 && <p className="note">Nothing by that name. A trace id has 32 digits from 0 to f.</p>}
        </ComboboxList>
      </ComboboxProvider>
    </Dialog>
  );
}
