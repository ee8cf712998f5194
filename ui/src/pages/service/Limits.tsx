// What a service has promised, how it keeps it, and what holds requests back from it.
import { useState } from 'react';
import { at } from '../../api/paths';
import type { ServiceView } from '../../api/types';
import { isMissing, useApi } from '../../api/use';
import { oneLine } from '../../lib/text';
import { serviceOf } from '../../lib/wrong';
import { Held } from '../../ui/Held';
import { Empty, Given } from '../../ui/Notes';
import { Moment } from '../../ui/Time';
import { ObjectiveTable } from '../alerts/ObjectiveTable';
import { Settings } from './Settings';

const WEEK_MS = 7 * 86_400_000;
const KINDS = new Set(['limit', 'config', 'breaker', 'ejection', 'scale', 'oom', 'throttle']);

export function Limits({ service }: { service: ServiceView }) {
  const objectives = useApi(at('/v1/objectives'), 30_000);
  const resilience = useApi(at('/v1/resilience'), 5000);
  return (
    <>
      {!isMissing(objectives) && (
      <section className="panel" aria-labelledby="objectives">
        <header>
          <h2 id="objectives">Objectives</h2>
        </header>
        <Given of={objectives} rows={2}>
          {(all) => <ObjectiveTable objectives={all.filter((own) => own.service === service.name)} />}
        </Given>
      </section>
      )}
      <section className="panel" aria-labelledby="held">
        <header>
          <h2 id="held">What holds requests back</h2>
        </header>
        <Given of={resilience} rows={2}>
          {(view) => (
            <Held
              breakers={view.breakers.filter((own) => own.callee === service.name || own.caller === service.name)}
              instances={view.instances.filter((own) => serviceOf(own.instance) === service.name)}
            />
          )}
        </Given>
      </section>
      {service.revision !== null && <Settings key={service.revision} service={service.name} revision={service.revision} />}
      <Changes service={service.name} />
    </>
  );
}

function Changes({ service }: { service: string }) {
  const [since] = useState(() => new Date(Date.now() - WEEK_MS).toISOString());
  const found = useApi(at('/v1/timeline', { service, since, limit: 500 }));
  if (isMissing(found)) return null;
  return (
    <section className="panel" aria-labelledby="settings">
      <header>
        <h2 id="settings">Changes of settings and limits in a week</h2>
      </header>
      <Given of={found} rows={3}>
        {(all) => {
          const events = all.events.filter((own) => KINDS.has(own.kind));
          return events.length === 0 ? (
            <Empty title="None" />
          ) : (
            <ul className="pad routes">
              {events.map((own, at) => (
                <li key={at}>
                  <span className="dim">
                    <Moment time={own.time} exact={false} />
                  </span>{' '}
                  {own.kind}: {oneLine(own.message, 300)}
                </li>
              ))}
            </ul>
          );
        }}
      </Given>
    </section>
  );
}
