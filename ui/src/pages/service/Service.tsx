// A service: how it is and why, its instances, deployments, connections, objectives and limits.
import { at } from '../../api/paths';
import { useApi } from '../../api/use';
import { useLive } from '../../app/live';
import { Link } from '../../app/router';
import { useMay } from '../../app/session';
import { State } from '../../ui/Badges';
import { Empty, Failure, Loading } from '../../ui/Notes';
import { Tabs } from '../../ui/Tabs';
import { Actions } from './Actions';
import { Connections } from './Connections';
import { Deploys } from './Deploys';
import { Limits } from './Limits';
import { Now } from './Now';

const PARTS = { '': 'Now', deploys: 'Deployments', connections: 'Connections', limits: 'Settings and limits' } as const;

export default function Service({ name, part }: { name: string; part: string }) {
  const live = useLive();
  const mayAct = useMay('operator');
  const why = useApi(at('/v1/why/{subject}', { subject: name }), 30_000).data;
  const { services } = live;
  if (services === undefined) return live.error ? <Failure error={live.error} /> : <Loading rows={10} />;
  const service = services.find((own) => own.name === name);
  if (!service) {
    return (
      <Empty page title={`There is no service '${name}' here`}>
        <Link className="btn" to="/">
          All services
        </Link>
      </Empty>
    );
  }
  const current = part in PARTS ? PARTS[part as keyof typeof PARTS] : 'Now';
  const base = `/services/${encodeURIComponent(name)}`;
  return (
    <>
      <div className="page-head">
        <div>
          <h1>
            {name} <span className="head-state"><State state={service.state} /></span>
          </h1>
          <p className="dim small">
            {service.description ?? ''}
            {service.owner !== null && ` · ${service.owner}`}
            {service.revision !== null && ` · revision ${service.revision}`}
            {service.deployment !== null && ` · a deployment runs: ${service.step ?? ''}`}
          </p>
        </div>
        <div className="bar">
          <Link className="btn" to={`/logs?q=service:${name}`}>
            Logs
          </Link>
          <Link className="btn" to={`/traces?q=service:${name}`}>
            Traces
          </Link>
          {mayAct && <Actions service={service} />}
        </div>
      </div>
      <Tabs
        label={`Parts of ${name}`}
        current={current}
        tabs={Object.entries(PARTS).map(([key, title]) => ({ to: key === '' ? base : `${base}/${key}`, name: title }))}
      />
      {current === 'Now' && <Now service={service} why={why} />}
      {current === 'Deployments' && <Deploys service={service} />}
      {current === 'Connections' && <Connections service={service} />}
      {current === 'Settings and limits' && <Limits service={service} />}
    </>
  );
}
