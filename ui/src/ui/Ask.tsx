// An action that is asked about first: a button and a dialog that says what will happen. Nothing
// is destroyed by one click. A failure is shown in the dialog, so that nothing typed is lost.
import { Dialog, DialogDismiss, DialogHeading, useDialogStore } from '@ariakit/react';
import { useState, type SubmitEvent, type ReactNode } from 'react';
import { told } from '../api/client';

interface Props {
  label: string;
  title: string;
  /** What the button in the dialog says; the label if absent. */
  confirm?: string;
  danger?: boolean;
  className?: string;
  disabled?: boolean;
  /** What happens, and fields if some are needed. */
  children: ReactNode;
  run: () => Promise<void>;
  onOpen?: () => void;
}

export function Ask({ label, title, confirm, danger = false, className = 'btn', disabled = false, children, run, onOpen }: Props) {
  const dialog = useDialogStore();
  const [busy, setBusy] = useState(false);
  const [trouble, setTrouble] = useState('');

  const submit = async () => {
    setBusy(true);
    setTrouble('');
    try {
      await run();
      dialog.hide();
    } catch (error) {
      setTrouble(told(error));
    } finally {
      setBusy(false);
    }
  };
  const open = () => {
    setTrouble('');
    onOpen?.();
    dialog.show();
  };
  return (
    <>
      <button type="button" className={danger ? `${className} btn-danger` : className} onClick={open} disabled={disabled}>
        {label}
      </button>
      <Dialog store={dialog} className="dialog" backdrop={<div className="backdrop" />} unmountOnHide>
        <DialogHeading className="dialog-title">{title}</DialogHeading>
        <form
          onSubmit={(event: SubmitEvent) => {
            event.preventDefault();
            void submit();
          }}
        >
          <div className="dialog-body">{children}</div>
          {trouble !== '' && (
            <p className="trouble" role="alert">
              {trouble}
            </p>
          )}
          <div className="dialog-foot">
            <DialogDismiss className="btn">Cancel</DialogDismiss>
            <button type="submit" className={danger ? 'btn btn-danger-full' : 'btn btn-main'} disabled={busy}>
              {busy ? 'Working…' : (confirm ?? label)}
            </button>
          </div>
        </form>
      </Dialog>
    </>
  );
}
