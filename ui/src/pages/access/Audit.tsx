// Every change that was asked for, by whom, and how it was answered; newest first.
import { at } from '../../api/paths';
import { useApi } from '../../api/use';
import { oneLine } from '../../lib/text';
import { Empty, Given } from '../../ui/Notes';
import { Pager, useBefore } from '../../ui/Pager';
import { Moment } from '../../ui/Time';

const PAGE = 100;

export function Audit() {
  const before = useBefore();
  const found = useApi(at('/v1/audit', { before: before === undefined ? undefined : Number(before), limit: PAGE }));
  return (
    <section className="panel scroll-x" aria-label="Audit" tabIndex={0}>
      <Given of={found} rows={10}>
        {({ entries }) =>
          entries.length === 0 ? (
            <Empty title={before === undefined ? 'Nobody has changed anything yet' : 'There are no older ones'} />
          ) : (
            <>
              <table className="cards">
                <thead>
                  <tr>
                    <th>When</th>
                    <th>Who</th>
                    <th className="wide">Role</th>
                    <th>What</th>
                    <th className="right">Answer</th>
                    <th className="wide">Came by</th>
                  </tr>
                </thead>
                <tbody>
                  {entries.map((own) => (
                    <tr key={own.number}>
                      <td className="nowrap">
                        <Moment time={own.time} exact={false} />
                      </td>
                      <td>{oneLine(own.who, 60)}</td>
                      <td className="wide">{own.role}</td>
                      <td>
                        {own.what !== '' && <p className="audit-what">{oneLine(own.what, 500)}</p>}
                        <span className={own.what === '' ? 'mono' : 'mono dim small'}>
                          {own.method} {oneLine(own.path, 120)}
                        </span>
                      </td>
                      <td className={own.status >= 400 ? 'right num bad' : 'right num'}>{own.status}</td>
                      <td className="dim wide">{own.way}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </>
          )
        }
      </Given>
      <Pager next={found.data?.next ?? null} />
    </section>
  );
}
