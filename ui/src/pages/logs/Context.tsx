// What the same instance said before and after a line, whatever the search was. Which line is in the address.
import { Dialog, DialogDismiss, DialogHeading } from '@ariakit/react';
import { at } from '../../api/paths';
import { useApi } from '../../api/use';
import { useQuery } from '../../app/router';
import { Given } from '../../ui/Notes';
import { LineCells } from './Line';

const AROUND = 20;

export function ContextButton({ number }: { number: number }) {
  const [, set] = useQuery();
  return (
    <button type="button" className="btn btn-small" onClick={() => set({ around: String(number) })}>
      Lines around it
    </button>
  );
}

export function Context() {
  const [query, set] = useQuery();
  const around = query.get('around');
  return (
    <Dialog open={around !== null} onClose={() => set({ around: null }, true)} className="dialog dialog-wide" backdrop={<div className="backdrop" />} unmountOnHide>
      {/* Of another line nothing is shown, not even for a moment. */}
      <Around key={around} number={Number(around)} />
      <div className="dialog-foot">
        <DialogDismiss className="btn">Close</DialogDismiss>
      </div>
    </Dialog>
  );
}

function Around({ number }: { number: number }) {
  const found = useApi(at('/v1/logs/context', { number, before: AROUND, after: AROUND }));
  const here = found.data?.records.find((own) => own.number === number);
  return (
    <>
      <DialogHeading className="dialog-title">Around this line{here && ` of ${here.instance}`}</DialogHeading>
      <Given of={found} rows={12}>
        {({ records }) => (
          <ol className="context" tabIndex={0} aria-label="Lines, oldest first">
            {records.map((own) => (
              <li key={own.number} className={`log log-${own.level ?? 'none'}${own.number === number ? ' log-here' : ''}`} aria-current={own.number === number}>
                <LineCells line={own} words={[]} />
              </li>
            ))}
          </ol>
        )}
      </Given>
    </>
  );
}
