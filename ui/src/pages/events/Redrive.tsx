// Trying letters again, at a rate, stopping by itself when they keep failing; each outcome is shown
// as it comes, and closing the dialog stops it.
import { Dialog, DialogHeading, useDialogStore } from '@ariakit/react';
import { useRef, useState, type SubmitEvent } from 'react';
import { aborted, sendAndRead, told } from '../../api/client';
import { lines } from '../../api/stream';
import type { RedriveOrder, StepView } from '../../api/types';
import { plural } from '../../lib/format';
import { oneLine } from '../../lib/text';
import { Tag } from '../../ui/Badges';
import { Field } from '../../ui/Field';

interface Props {
  label: string;
  count: number;
  of: Pick<RedriveOrder, 'ids' | 'which'>;
  onDone: () => void;
}

const SHOWN = 200;

export function Redrive({ label, count, of, onDone }: Props) {
  const dialog = useDialogStore({
    setOpen: (open) => {
      if (open) return;
      control.current?.abort();
      if (steps.length > 0) onDone();
      setSteps([]);
      setTrouble('');
    },
  });
  const [rate, setRate] = useState(10);
  const [stopAfter, setStopAfter] = useState(3);
  const [steps, setSteps] = useState<StepView[]>([]);
  const [phase, setPhase] = useState<'asking' | 'running' | 'over'>('asking');
  const [trouble, setTrouble] = useState('');
  const control = useRef<AbortController | null>(null);

  const run = async () => {
    const own = new AbortController();
    control.current = own;
    setPhase('running');
    setTrouble('');
    try {
      const answer = await sendAndRead('/v1/dead/redrive', {}, { ...of, rate, stop_after: stopAfter }, own.signal);
      await lines(answer, (step) => setSteps((old) => [step, ...old]));
    } catch (error) {
      if (!aborted(error)) setTrouble(told(error));
    }
    setPhase('over');
  };
  const taken = steps.filter((step) => step.outcome === 'taken').length;
  const failed = steps.filter((step) => step.outcome === 'failed').length;
  const stopped = steps.find((step) => step.outcome === 'stopped');
  return (
    <>
      <button
        type="button"
        className="btn"
        onClick={() => {
          setPhase('asking');
          dialog.show();
        }}
      >
        {label}
      </button>
      <Dialog store={dialog} className="dialog" backdrop={<div className="backdrop" />} unmountOnHide>
        <DialogHeading className="dialog-title">Redrive {plural(count, 'dead letter')}</DialogHeading>
        <form
          onSubmit={(event: SubmitEvent) => {
            event.preventDefault();
            void run();
          }}
        >
          <div className="dialog-body">
            {phase === 'asking' ? (
              <>
                <p>Each is delivered once more, as it is now: edited ones with their new value.</p>
                <Field label="Letters in a second, at most">
                  {(id) => <input id={id} type="number" min={0.1} max={10_000} step="any" required value={rate} onChange={(event) => setRate(Number(event.target.value))} />}
                </Field>
                <Field label="Stop after so many failures in a row">
                  {(id) => <input id={id} type="number" min={1} max={10_000} required value={stopAfter} onChange={(event) => setStopAfter(Number(event.target.value))} />}
                </Field>
              </>
            ) : (
              <>
                <p role="status">
                  {phase === 'running' ? 'Under way: ' : 'Over: '}
                  {taken} taken, {failed} failed again{stopped ? `; stopped, ${stopped.left} not tried` : ''}
                </p>
                <progress max={count} value={taken + failed} aria-label="Progress" />
                <ul className="steps" tabIndex={0} aria-label="Outcomes">
                  {steps.slice(0, SHOWN).map((step, at) =>
                    step.outcome === 'stopped' ? null : (
                      <li key={at}>
                        <Tag tone={step.outcome === 'taken' ? 'ok' : 'bad'}>{step.outcome}</Tag> <span className="mono">{step.id}</span> {step.outcome === 'failed' && oneLine(step.reason, 200)}
                      </li>
                    ),
                  )}
                </ul>
              </>
            )}
          </div>
          {trouble !== '' && (
            <p className="trouble" role="alert">
              {trouble}
            </p>
          )}
          <div className="dialog-foot">
            <button type="button" className="btn" onClick={() => dialog.hide()}>
              {phase === 'running' ? 'Stop' : phase === 'over' ? 'Close' : 'Cancel'}
            </button>
            {phase === 'asking' && (
              <button type="submit" className="btn btn-main">
                Redrive
              </button>
            )}
          </div>
        </form>
      </Dialog>
    </>
  );
}
