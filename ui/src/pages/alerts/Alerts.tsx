// Alerts that fire or are about to, objectives with their budgets, and alerts of the past.
import { useState } from 'react';
import { send } from '../../api/client';
import { at } from '../../api/paths';
import type { Alert } from '../../api/types';
import { isMissing, useApi } from '../../api/use';
import { useLive } from '../../app/live';
import { Link } from '../../app/router';
import { useMay } from '../../app/session';
import { oneLine } from '../../lib/text';
import { Ask } from '../../ui/Ask';
import { State, Tag } from '../../ui/Badges';
import { Field } from '../../ui/Field';
import { Empty, Given } from '../../ui/Notes';
import { Ago } from '../../ui/Time';
import { toast } from '../../ui/Toast';
import { ObjectiveTable } from './ObjectiveTable';
import { Past } from './Past';

const RANK = { firing: 0, pending: 1, resolved: 2 };

export default function Alerts() {
  const { alerts: live } = useLive();
  const found = useApi(at('/v1/alerts'), 10_000);
  const objectives = useApi(at('/v1/objectives'), 30_000);
  return (
    <>
      <h1>Alerts</h1>
      <section className="panel" aria-label="Alerts now">
        <Given of={found} rows={3}>
          {(asked) => {
            const alerts = [...(live ?? asked)].sort((a, b) => RANK[a.state] - RANK[b.state]);
            if (alerts.length === 0) return <Empty title="No alerts">Every objective is kept.</Empty>;
            return (
              <ul className="alerts">
                {alerts.map((own) => (
                  <AlertRow key={own.id} alert={own} onChanged={found.reload} />
                ))}
              </ul>
            );
          }}
        </Given>
      </section>
      {!isMissing(objectives) && (
      <section className="panel" aria-labelledby="objectives">
        <header>
          <h2 id="objectives">Objectives</h2>
          <span className="dim small">Burning 1× uses the budget up in exactly its window</span>
        </header>
        <Given of={objectives} rows={3}>
          {(all) => <ObjectiveTable objectives={all} />}
        </Given>
      </section>
      )}
      <Past />
    </>
  );
}

const HOURS = [1, 4, 12, 24];

function AlertRow({ alert, onChanged }: { alert: Alert; onChanged: () => void }) {
  const mayAct = useMay('operator');
  const [hours, setHours] = useState(1);
  const change = async (until: string | null) => {
    await send('POST', '/v1/alerts/{id}/silence', { id: alert.id }, { until });
    toast(until === null ? 'Told again' : `Silenced for ${hours} h`);
    onChanged();
  };
  return (
    <li className="alert">
      <State state={alert.state} />
      <span className="alert-text">
        <b>
          <Link to={`/services/${alert.service}`}>{alert.service}</Link>: {alert.objective}
        </b>{' '}
        <Tag>{alert.severity}</Tag> <span className="dim">{oneLine(alert.message, 400)}</span>
      </span>
      <span className="dim small nowrap">
        <Ago time={alert.since} suffix />
      </span>
      {alert.silenced_until !== null ? (
        <>
          <Tag>{`silent until ${new Date(alert.silenced_until).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })}`}</Tag>
          {mayAct && (
            <Ask label="End silence" confirm="End it" className="btn btn-small" title={`End the silence on ${alert.objective} of ${alert.service}?`} run={() => change(null)}>
              <p>If it still fires, everybody is told at once.</p>
            </Ask>
          )}
        </>
      ) : (
        mayAct &&
        alert.state !== 'resolved' && (
          <Ask label="Silence" className="btn btn-small" title={`Silence ${alert.objective} of ${alert.service}?`} run={() => change(new Date(Date.now() + hours * 3_600_000).toISOString())}>
            <p>Nobody is told of it until then. It is still shown here.</p>
            <Field label="For">
              {(id) => (
                <select id={id} value={hours} onChange={(event) => setHours(Number(event.target.value))}>
                  {HOURS.map((own) => (
                    <option key={own} value={own}>
                      {own} h
                    </option>
                  ))}
                </select>
              )}
            </Field>
          </Ask>
        )
      )}
    </li>
  );
}
