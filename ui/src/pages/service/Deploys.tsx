// The deployments of a service, newest first, each with a way back to its revision.
import { at } from '../../api/paths';
import type { ServiceView } from '../../api/types';
import { useApi } from '../../api/use';
import { useMay } from '../../app/session';
import { duration } from '../../lib/format';
import { oneLine } from '../../lib/text';
import { Ask } from '../../ui/Ask';
import { State, Tag } from '../../ui/Badges';
import { ListTable } from '../../ui/ListTable';
import { Empty } from '../../ui/Notes';
import { Pager, pageOf, useBefore } from '../../ui/Pager';
import { Moment } from '../../ui/Time';
import { order } from './order';

const PAGE = 50;

export function Deploys({ service }: { service: ServiceView }) {
  const before = useBefore();
  const all = useApi(at('/v1/services/{service}/history', { service: service.name, before: before === undefined ? undefined : Number(before), limit: PAGE + 1 }), 10_000);
  const [found, next] = pageOf(all, PAGE);
  const mayAct = useMay('operator');
  return (
    <section className="panel">
      <ListTable
        of={found}
        label="Deployments, newest first"
        head={['Revision', 'What', 'Outcome', 'When', ['Took', 'right wide'], 'Who and why', ['Files', 'wide']]}
        acts={mayAct}
        cards
        none={
          before === undefined ? (
            <Empty title="It was never deployed">
              <code>atoll deploy {service.name}</code> makes its first revision.
            </Empty>
          ) : (
            <Empty title="There are no older ones" />
          )
        }
      >
        {(own, at, entries) => (
          <tr key={own.id}>
            <td className="num">
              {own.revision === null ? '–' : `r${own.revision}`} {before === undefined && own.revision === service.revision && entries.findIndex((one) => one.revision === own.revision) === at && <Tag tone="ok">serves</Tag>}
            </td>
            <td>{own.kind}</td>
            <td>
              <State state={own.outcome ?? 'running'} />
              {own.detail !== '' && (
                <p className="small dim deploy-detail">
                  {oneLine(own.detail, 300)}
                  {own.code !== null && <code> {own.code}</code>}
                </p>
              )}
            </td>
            <td className="nowrap">
              <Moment time={own.started} exact={false} />
            </td>
            <td className="right num wide">{own.took_ms === null ? '–' : duration(own.took_ms * 1000)}</td>
            <td>
              <b>{own.who}</b> <span className="dim">{oneLine(own.why, 200)}</span>
            </td>
            <td className="mono dim wide">{own.digest?.slice(0, 10) ?? ''}</td>
            {mayAct && (
              <td className="right">
                {own.revision !== null && own.revision !== service.revision && own.outcome === 'succeeded' && (
                  <Ask
                    label={`Back to r${own.revision}`}
                    className="btn btn-small"
                    danger
                    disabled={service.deployment !== null}
                    title={`Roll ${service.name} back to revision ${own.revision}?`}
                    confirm="Roll back"
                    run={() => order(service.name, { kind: 'rollback', revision: own.revision ?? 0, why: `back from r${service.revision ?? 0}` }, found.reload)}
                  >
                    <p>
                      Revision {own.revision} takes over from {service.revision ?? '–'}, without a break. What newer revisions have changed in its database stays as it is.
                    </p>
                  </Ask>
                )}
              </td>
            )}
          </tr>
        )}
      </ListTable>
      <Pager next={next} />
    </section>
  );
}
