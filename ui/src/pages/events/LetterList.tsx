// The letters of a group.
import type { LetterView } from '../../api/types';
import { shownText } from '../../lib/bytes';
import { oneLine } from '../../lib/text';
import { Tag } from '../../ui/Badges';
import { Rows } from '../../ui/Rows';
import { Moment } from '../../ui/Time';

interface Props {
  letters: LetterView[];
  chosen: Set<string>;
  open: string | undefined;
  mayPick: boolean;
  onPick: (ids: string[], on: boolean) => void;
  onOpen: (id: string | null) => void;
}

export function LetterList({ letters, chosen, open, mayPick, onPick, onOpen }: Props) {
  const all = letters.every((own) => chosen.has(own.id));
  return (
    <div className="stack letter-list">
      {mayPick && (
        <label className="check letter-all">
          <input type="checkbox" checked={all} onChange={(event) => onPick(letters.map((own) => own.id), event.target.checked)} /> All of the group
        </label>
      )}
      <Rows label="Dead letters" className="short" items={letters} keyOf={(own) => own.id} estimate={38}>
        {(own) => (
          <div className={open === own.id ? 'letter-row span-open' : 'letter-row'}>
            {mayPick ? <input type="checkbox" aria-label={`Choose ${own.id}`} checked={chosen.has(own.id)} onChange={(event) => onPick([own.id], event.target.checked)} /> : <span />}
            <button type="button" className="letter-open" aria-expanded={open === own.id} onClick={() => onOpen(open === own.id ? null : own.id)}>
              <span className="dim">
                <Moment time={own.died} exact={false} />
              </span>
              <span className="clip">{oneLine(shownText(own.key), 40)}</span>
              <span className="clip mono dim">{oneLine(shownText(own.value), 200)}</span>
              {own.edited && <Tag tone="ok">edited</Tag>}
            </button>
          </div>
        )}
      </Rows>
    </div>
  );
}
