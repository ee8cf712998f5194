// One dead letter: what happened, its value to be edited (a copy; the record in the topic stays),
// its trace, and another try.
import { useState } from 'react';
import { send, told } from '../../api/client';
import type { LetterView } from '../../api/types';
import { Link } from '../../app/router';
import { useMay } from '../../app/session';
import { jsonTrouble, pretty, shownText } from '../../lib/bytes';
import { plural } from '../../lib/format';
import { inert } from '../../lib/text';
import { Attributes, Long } from '../../ui/Attributes';
import { Icon } from '../../ui/Icon';
import { Field } from '../../ui/Field';
import { Moment } from '../../ui/Time';
import { toast } from '../../ui/Toast';
import { Redrive } from './Redrive';

interface Props {
  letter: LetterView;
  onChanged: () => void;
  onClose: () => void;
}

export function Letter({ letter, onChanged, onClose }: Props) {
  const isText = letter.value === null || typeof letter.value === 'string';
  const [value, setValue] = useState(() => pretty(shownText(letter.value)));
  const [trouble, setTrouble] = useState('');
  const mayAct = useMay('operator');
  const isChanged = value !== pretty(shownText(letter.value));
  const wrong = jsonTrouble(value);
  const save = () => {
    const [service = '', topic = '', number] = letter.id.split('/');
    send('POST', '/v1/dead/{service}/{topic}/{number}/edit', { service, topic, number: Number(number) }, { value }).then(
      () => {
        toast('Saved. Redrive it to try again.');
        onChanged();
      },
      (error: unknown) => setTrouble(told(error)),
    );
  };
  return (
    <section className="panel letter" aria-label="Dead letter">
      <header>
        <h2 className="mono">{letter.id}</h2>
        <button type="button" className="btn btn-icon" aria-label="Close" onClick={onClose}>
          <Icon name="close" />
        </button>
      </header>
      <div className="pad stack">
        <p className="bad">{inert(letter.reason)}</p>
        {letter.answer !== null && (
          <pre className="block" tabIndex={0} aria-label="The last answer">
            <Long text={letter.answer} max={4000} />
          </pre>
        )}
        <p className="small dim">
          Given up <Moment time={letter.died} exact={false} /> after {plural(letter.attempts, 'attempt')} at <code>{inert(letter.path)}</code>; record {letter.partition}:{letter.offset} of {letter.topic}
          {letter.deaths > 1 && `; its record died ${plural(letter.deaths, 'time')}, this was the last`}
        </p>
        <Field label={letter.edited ? 'Value (edited)' : 'Value'} {...(isText ? {} : { hint: 'These bytes are no text: they can be redriven, not edited here.' })}>
          {(id) => <textarea id={id} rows={8} value={inertUnlessText(value, isText)} readOnly={!isText || !mayAct} spellCheck={false} onChange={(event) => setValue(event.target.value)} />}
        </Field>
        {isChanged && wrong !== undefined && <p className="warn small">This looks like JSON, but is none: {wrong}</p>}
        {trouble !== '' && (
          <p className="trouble" role="alert">
            {trouble}
          </p>
        )}
        <div className="bar">
          {mayAct && isText && (
            <button type="button" className="btn btn-main" disabled={!isChanged} onClick={save}>
              Save the edited copy
            </button>
          )}
          {mayAct && <Redrive label="Redrive this one" count={1} of={{ ids: [letter.id] }} onDone={onChanged} />}
          <Link className="btn" to={`/traces/${letter.trace}`}>
            Open its trace
          </Link>
          <Link className="btn" to={`/logs?q=trace:${letter.trace}&range=24h`}>
            Its lines
          </Link>
        </div>
        <Attributes of={{ ...(letter.key !== null && { key: shownText(letter.key) }), ...Object.fromEntries(letter.headers.map(([name, text]) => [name, shownText(text)])) }} />
      </div>
    </section>
  );
}

/** A field shows text as it is: nothing in it can act, and what is saved must be what was there. */
function inertUnlessText(value: string, isText: boolean): string {
  return isText ? value : inert(value.slice(0, 4000));
}
