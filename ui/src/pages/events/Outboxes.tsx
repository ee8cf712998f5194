// What services publish from their own databases, and what is stuck there.
import { at } from '../../api/paths';
import { useApi } from '../../api/use';
import { Link } from '../../app/router';
import { count } from '../../lib/format';
import { oneLine } from '../../lib/text';
import { Empty, Given } from '../../ui/Notes';
import { Ago } from '../../ui/Time';

export function Outboxes() {
  const found = useApi(at('/v1/outboxes'), 5000);
  return (
    <section className="panel scroll-x" aria-label="Outboxes" tabIndex={0}>
      <Given of={found}>
        {(all) =>
          all.length === 0 ? (
            <Empty title="No outboxes">
              <code>[outbox]</code> in the service.toml of a service with a database makes one.
            </Empty>
          ) : (
            <table className="cards">
              <thead>
                <tr>
                  <th>Service</th>
                  <th className="wide">Table</th>
                  <th className="right">Published</th>
                  <th className="right">Refused</th>
                  <th className="right">Waiting</th>
                  <th>Trouble</th>
                </tr>
              </thead>
              <tbody>
                {all.map((own) => (
                  <tr key={own.service}>
                    <td>
                      <Link to={`/services/${own.service}`}>{own.service}</Link>
                    </td>
                    <td className="mono wide">{own.table}</td>
                    <td data-label="published" className="right num">{count(own.published)}</td>
                    <td data-label="refused" className={own.refused > 0 ? 'right num bad' : 'right num dim'}>{own.refused}</td>
                    <td data-label="waiting" className={own.waiting > 0 ? 'right num warn' : 'right num dim'}>{own.waiting}</td>
                    <td className="trouble-cell" data-label="trouble">
                      {own.trouble === null ? (
                        <span className="dim">none</span>
                      ) : (
                        <>
                          {oneLine(own.trouble, 300)} <span className="dim small">{own.trouble_since !== null && <Ago time={own.trouble_since} suffix />}</span>
                        </>
                      )}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )
        }
      </Given>
    </section>
  );
}
