// Who calls whom: boxes colored by health, lines as thick as their traffic. A click (or Enter) on a
// box or a line shows its numbers and the ways on; what belongs to it stays bright.
import { useMemo, useSyncExternalStore } from 'react';
import { at } from '../../api/paths';
import { useApi } from '../../api/use';
import { useQuery } from '../../app/router';
import { picture } from '../../lib/graph';
import { iso } from '../../lib/range';
import { Empty, Given } from '../../ui/Notes';
import { RangePicker, useRange } from '../../ui/RangePicker';
import { Drawing } from './Drawing';
import { Chosen } from './Chosen';

const EVERY = 5000;
const narrow = matchMedia('(max-width: 700px)');

function subscribe(listener: () => void): () => void {
  narrow.addEventListener('change', listener);
  return () => narrow.removeEventListener('change', listener);
}

export default function ServiceMap() {
  const [query, set] = useQuery();
  const [range] = useRange(EVERY);
  const isNarrow = useSyncExternalStore(subscribe, () => narrow.matches);
  const asked = range.preset === '1h' ? at('/v1/map') : at('/v1/map', { since: iso(range.since), until: iso(range.until) });
  const found = useApi(asked, EVERY);
  const view = found.data;
  const drawn = useMemo(() => (view ? picture(view, isNarrow) : undefined), [view, isNarrow]);
  const chosen = query.get('at');
  const choose = (at: string) => set({ at: at === chosen ? null : at }, true);
  return (
    <>
      <div className="page-head">
        <h1>Map</h1>
        <RangePicker range={range} />
      </div>
      <Given of={found} rows={8}>
        {(known) =>
          known.nodes.length === 0 || !drawn ? (
            <Empty title="Nothing to draw yet">The map shows services and topics as soon as one has had a request.</Empty>
          ) : (
            <div className="map-and-chosen">
              <section className="panel map-box" aria-label="Service map" tabIndex={0}>
                <Drawing drawn={drawn} chosen={chosen} onChoose={choose} />
              </section>
              <Chosen view={known} chosen={chosen} onClose={() => set({ at: null }, true)} />
            </div>
          )
        }
      </Given>
      <p className="small dim legend">
        {(['ok', 'warn', 'bad'] as const).map((tone) => (
          <span key={tone} className="nowrap">
            <span className={`key-box health-${tone}`} /> {{ ok: 'well', warn: '1 % fail', bad: '5 % fail' }[tone]}
          </span>
        ))}
        <span className="nowrap">
          <span className="key-line" /> requests
        </span>
        <span className="nowrap">
          <span className="key-line key-event" /> events
        </span>
      </p>
    </>
  );
}
