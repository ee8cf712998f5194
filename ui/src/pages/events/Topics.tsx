// All topics: size, who fills them, who reads them and how far behind the slowest is.
import { at } from '../../api/paths';
import { useApi } from '../../api/use';
import { Link } from '../../app/router';
import { bytes, count } from '../../lib/format';
import { Empty, Given } from '../../ui/Notes';

export function Topics() {
  const topics = useApi(at('/v1/topics'), 10_000);
  const readers = useApi(at('/v1/readers'), 10_000).data ?? [];
  return (
    <section className="panel scroll-x" aria-label="Topics" tabIndex={0}>
      <Given of={topics}>
        {(all) =>
          all.length === 0 ? (
            <Empty title="No topics yet">
              <code>[events]</code> in atoll.toml and <code>[publish]</code> in a service.toml make them.
            </Empty>
          ) : (
            <table>
              <thead>
                <tr>
                  <th>Topic</th>
                  <th className="right">Records</th>
                  <th className="right wide">Size</th>
                  <th className="right wide">Partitions</th>
                  <th>Published by</th>
                  <th>Read by</th>
                  <th className="right">Most behind</th>
                </tr>
              </thead>
              <tbody>
                {all.map((own) => {
                  const lag = Math.max(0, ...readers.filter((reader) => reader.topic === own.name).map((reader) => reader.lag));
                  return (
                    <tr key={own.name}>
                      <td>
                        <Link to={`/events/topics/${encodeURIComponent(own.name)}`}>
                          <b>{own.name}</b>
                        </Link>
                      </td>
                      <td className="right num">{count(own.records)}</td>
                      <td className="right num wide">{bytes(own.bytes)}</td>
                      <td className="right num wide">{own.partitions}</td>
                      <td>{own.publishers.join(', ')}</td>
                      <td>{own.readers.join(', ')}</td>
                      <td className={lag > 1000 ? 'right num warn' : 'right num'}>{count(lag)}</td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          )
        }
      </Given>
    </section>
  );
}
