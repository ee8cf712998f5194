// Names and values: attributes of lines, spans and records. Long values are cut; with `onFilter` a
// value can be searched for or excluded.
import { cut, inert, shown } from '../lib/text';
import { Copy } from './Copy';

interface Props {
  of: Record<string, unknown>;
  onFilter?: (key: string, value: string) => void;
}

export function Attributes({ of, onFilter }: Props) {
  const entries = Object.entries(of);
  if (entries.length === 0) return null;
  return (
    <dl className="attributes">
      {entries.map(([name, value]) => {
        const text = shown(value);
        return (
          <div key={name}>
            <dt>{inert(name)}</dt>
            <dd>
              {onFilter && text.length < 200 ? (
                <button type="button" className="linkish" title="Search for this value" onClick={() => onFilter(name, text)}>
                  {inert(text)}
                </button>
              ) : (
                <Long text={text} max={2000} />
              )}
            </dd>
          </div>
        );
      })}
    </dl>
  );
}

/** A text of any length, inert, cut, with a way to copy all of it. */
export function Long({ text, max }: { text: string; max?: number }) {
  const shownText = cut(text, max);
  return (
    <>
      <span className="long">{shownText.text}</span>
      {shownText.left > 0 && (
        <span className="cut">
          … {shownText.left.toLocaleString('en-US')} more characters <Copy text={text} label="Copy all of it" />
        </span>
      )}
    </>
  );
}
