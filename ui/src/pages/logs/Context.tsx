// What the same instance said before and after a line, whatever the search was.
import { Dialog, DialogDismiss, DialogHeading, useDialogStore, useStoreState } from '@ariakit/react';
import { at } from '../../api/paths';
import type { LogView } from '../../api/types';
import { useApi } from '../../api/use';
import { Given } from '../../ui/Notes';
import { LineCells } from './Line';

const AROUND = 20;

export function Context({ line }: { line: LogView }) {
  const dialog = useDialogStore();
  const isOpen = useStoreState(dialog, 'open');
  const found = useApi(isOpen ? at('/v1/logs/context', { number: line.number, before: AROUND, after: AROUND }) : null);
  return (
    <>
      <button type="button" className="btn btn-small" onClick={() => dialog.show()}>
        Lines around it
      </button>
      <Dialog store={dialog} className="dialog dialog-wide" backdrop={<div className="backdrop" />} unmountOnHide>
        <DialogHeading className="dialog-title">Around this line of {line.instance}</DialogHeading>
        <Given of={found} rows={12}>
          {({ records }) => (
            <ol className="context" tabIndex={0} aria-label="Lines, oldest first">
              {records.map((own) => (
                <li key={own.number} className={`log log-${own.level ?? 'none'}${own.number === line.number ? ' log-here' : ''}`} aria-current={own.number === line.number}>
                  <LineCells line={own} words={[]} />
                </li>
              ))}
            </ol>
          )}
        </Given>
        <div className="dialog-foot">
          <DialogDismiss className="btn">Close</DialogDismiss>
        </div>
      </Dialog>
    </>
  );
}
