// Copies a text. Where the browser forbids it (no HTTPS), says so.
import { useState } from 'react';
import { Icon } from './Icon';
import { toast } from './Toast';

export function Copy({ text, label = 'Copy' }: { text: string; label?: string }) {
  const [done, setDone] = useState(false);
  const copy = () => {
    // Absent in a page that came over plain HTTP from another machine.
    const clipboard = navigator.clipboard as Clipboard | undefined;
    if (!clipboard) {
      toast('The browser copies only over HTTPS. Mark the text and copy it by hand.', true);
      return;
    }
    clipboard.writeText(text).then(
      () => {
        setDone(true);
        setTimeout(() => setDone(false), 1500);
      },
      () => toast('The browser did not allow to copy.', true),
    );
  };
  return (
    <button type="button" className="btn btn-icon" onClick={copy} aria-label={label} title={label}>
      <Icon name={done ? 'check' : 'copy'} />
    </button>
  );
}
