// Two traces beside each other: the same operations in one row, and what differs.
import { at } from '../../api/paths';
import { useApi } from '../../api/use';
import { Link, useQuery } from '../../app/router';
import { compare, type Compared } from '../../lib/compare';
import { duration } from '../../lib/format';
import { oneLine } from '../../lib/text';
import { hueOf } from '../../lib/hue';
import { Empty, Given } from '../../ui/Notes';

export default function Compare() {
  const [query, set] = useQuery();
  const a = query.get('a') ?? '';
  const b = query.get('b') ?? '';
  const first = useApi(a === '' ? null : at('/v1/traces/{trace}', { trace: a }));
  const second = useApi(b === '' ? null : at('/v1/traces/{trace}', { trace: b }));
  if (a === '' || b === '') {
    return (
      <Empty page title="Choose two traces to compare">
        <Link className="btn" to="/traces">
          To the traces
        </Link>
      </Empty>
    );
  }
  return (
    <>
      <div className="page-head">
        <h1>Two traces</h1>
        <div className="bar">
          <button type="button" className="btn" onClick={() => set({ a: b, b: a }, true)}>
            Swap
          </button>
        </div>
      </div>
      <Given of={first}>{(one) => <Given of={second}>{(other) => <Table rows={compare(one, other)} a={a} b={b} />}</Given>}</Given>
    </>
  );
}

function Table({ rows, a, b }: { rows: Compared[]; a: string; b: string }) {
  const widest = Math.max(1, ...rows.flatMap((row) => [row.a.us, row.b.us]));
  return (
    <section className="panel scroll-x" tabIndex={0} aria-label="Comparison">
      <table className="compare">
        <thead>
          <tr>
            <th>Operation</th>
            <th className="right">
              <Link to={`/traces/${a}`}>A {a.slice(0, 8)}</Link>
            </th>
            <th className="right">
              <Link to={`/traces/${b}`}>B {b.slice(0, 8)}</Link>
            </th>
            <th className="right">B − A</th>
            <th>
              <span className="unseen">Both as bars</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => {
            const more = row.b.us - row.a.us;
            const isBig = Math.abs(more) > widest * 0.05;
            return (
              <tr key={row.key}>
                <td style={{ paddingLeft: `${0.7 + row.depth * 0.9}rem` }}>
                  <span className="hue" style={{ background: `var(${hueOf(row.service)})` }} /> <b>{row.service}</b> <span className="dim">{oneLine(row.name, 100)}</span>
                </td>
                <Side calls={row.a.calls} us={row.a.us} errors={row.a.errors} />
                <Side calls={row.b.calls} us={row.b.us} errors={row.b.errors} />
                <td className={isBig ? (more > 0 ? 'right num bad' : 'right num better') : 'right num dim'}>
                  {more > 0 ? '+' : more < 0 ? '−' : ''}
                  {duration(Math.abs(more))}
                </td>
                <td className="both">
                  <span className="meter" style={{ width: `${(row.a.us / widest) * 100}%` }} />
                  <span className="meter meter-other" style={{ width: `${(row.b.us / widest) * 100}%` }} />
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}

function Side({ calls, us, errors }: { calls: number; us: number; errors: number }) {
  if (calls === 0) return <td className="right dim">not there</td>;
  return (
    <td className={errors > 0 ? 'right num bad' : 'right num'}>
      {calls > 1 && <span className="dim">{calls}× </span>}
      {duration(us)}
      {errors > 0 && <span className="unseen"> failed</span>}
    </td>
  );
}
