// The workbench of dead letters: groups by failure, their letters, one opened to be read, edited
// and tried again; some or all of them redriven at a rate, or dropped.
import { useMemo, useState } from 'react';
import { send } from '../../api/client';
import { at } from '../../api/paths';
import { forget, useApi } from '../../api/use';
import { useQuery } from '../../app/router';
import { useMay } from '../../app/session';
import { plural } from '../../lib/format';
import { grouped } from '../../lib/letters';
import { oneLine } from '../../lib/text';
import { Ask } from '../../ui/Ask';
import { Empty, Given } from '../../ui/Notes';
import { Ago } from '../../ui/Time';
import { toast } from '../../ui/Toast';
import { LetterList } from './LetterList';
import { Letter } from './Letter';
import { Redrive } from './Redrive';

const LIMIT = 10_000;

export function Dead() {
  const [query, set] = useQuery();
  const mayAct = useMay('operator');
  const service = query.get('service') ?? undefined;
  const found = useApi(at('/v1/dead', { service, limit: LIMIT }), 20_000);
  const [chosen, setChosen] = useState<Set<string>>(() => new Set());
  const groups = useMemo(() => grouped(found.data?.letters ?? []), [found.data]);
  // What is looked at stays: groups change places when letters come and go, and a button must not mean another group then.
  const [kept, setKept] = useState('');
  const named = (name: string | null) => groups.find((own) => own.group === name);
  const group = named(query.get('group')) ?? named(kept) ?? groups[0];
  if (group !== undefined && group.group !== kept) setKept(group.group);
  const letter = found.data?.letters.find((own) => own.id === query.get('letter'));
  const picked = group?.letters.filter((own) => chosen.has(own.id)).map((own) => own.id) ?? [];

  const changed = () => {
    forget();
    setChosen(new Set());
    found.reload();
  };
  const pick = (ids: string[], on: boolean) => {
    setChosen((old) => {
      const next = new Set(old);
      for (const id of ids) {
        if (on) next.add(id);
        else next.delete(id);
      }
      return next;
    });
  };
  return (
    <Given of={found}>
      {(page) =>
        page.letters.length === 0 || !group ? (
          <section className="panel">
            <Empty title="No dead letters">Whatever was published has been taken. A record that is refused for good would wait here.</Empty>
          </section>
        ) : (
          <>
            {service !== undefined && (
              <p className="bar">
                Of {service} only
                <button type="button" className="btn btn-small" onClick={() => set({ service: null })}>
                  Show all
                </button>
              </p>
            )}
            <ul className="groups">
              {groups.map((own) => (
                <li key={`${own.service}/${own.topic}/${own.group}`}>
                  <button type="button" className="group panel" aria-pressed={own === group} onClick={() => set({ group: own.group, letter: null })}>
                    <span className="group-count num">{own.letters.length}</span>
                    <span className="group-text">
                      <b>
                        {own.service} ← {own.topic}
                      </b>
                      <span className="bad">{oneLine(own.reason, 160)}</span>
                      <span className="dim small">
                        newest <Ago time={own.newest} suffix />
                      </span>
                    </span>
                  </button>
                </li>
              ))}
            </ul>
            {page.next !== null && <p className="dim small">There are more than {plural(LIMIT, 'letter')}: the oldest are shown.</p>}
            {mayAct && (
              <div className="bar">
                <Redrive
                  label={picked.length > 0 ? `Redrive ${picked.length} chosen` : `Redrive all ${group.letters.length} of this group`}
                  count={picked.length > 0 ? picked.length : group.letters.length}
                  of={picked.length > 0 ? { ids: picked } : { which: { service: group.service, topic: group.topic, group: group.group } }}
                  onDone={changed}
                />
                <Ask
                  label={picked.length > 0 ? `Drop ${picked.length} chosen` : `Drop all ${group.letters.length} of this group`}
                  danger
                  title={`Drop ${plural(picked.length > 0 ? picked.length : group.letters.length, 'dead letter')}?`}
                  confirm="Drop for good"
                  run={async () => {
                    const ids = picked.length > 0 ? picked : group.letters.map((own) => own.id);
                    await send('POST', '/v1/dead/drop', {}, { ids });
                    toast(`${plural(ids.length, 'letter')} dropped`);
                    set({ letter: null }, true);
                    changed();
                  }}
                >
                  <p>They are put aside for good: {group.service} will never have them. This cannot be undone.</p>
                </Ask>
              </div>
            )}
            <div className={letter ? 'letters-and-one' : ''}>
              <LetterList letters={group.letters} chosen={chosen} open={letter?.id} mayPick={mayAct} onPick={pick} onOpen={(id) => set({ letter: id }, true)} />
              {letter && <Letter key={letter.id + String(letter.edited)} letter={letter} onChanged={changed} onClose={() => set({ letter: null }, true)} />}
            </div>
          </>
        )
      }
    </Given>
  );
}
