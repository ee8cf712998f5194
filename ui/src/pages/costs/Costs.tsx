// Who uses the machine: services, routes, callers; and callers that ask too often for one request.
import type { ReactNode } from 'react';
import { at } from '../../api/paths';
import type { Costs as CostsView } from '../../api/types';
import { useApi } from '../../api/use';
import { Link } from '../../app/router';
import { bytes, count, duration, number, percent } from '../../lib/format';
import { iso } from '../../lib/range';
import { oneLine } from '../../lib/text';
import { Empty, Given } from '../../ui/Notes';
import { RangePicker, useRange } from '../../ui/RangePicker';

const SHOWN = 50;
const SHARE = ['Requests', 'Processor', 'of each', 'Memory, mean', 'Bytes'];

export default function Costs() {
  const [range] = useRange(60_000);
  const found = useApi(at('/v1/costs', { since: iso(range.since), until: iso(range.until) }));
  return (
    <>
      <div className="page-head">
        <div>
          <h1>Costs</h1>
          <p className="dim small">What services used is measured. How it is shared out over routes and callers is an estimate, by the time their requests took.</p>
        </div>
        <RangePicker range={range} />
      </div>
      <Given of={found}>
        {(costs) => {
          const seconds = (range.until - range.since) / 1000;
          const total = costs.services.reduce((sum, own) => sum + own.cpu_seconds, 0);
          return (
            <>
              {costs.chatty.length > 0 && <Chatty costs={costs} />}
              <Table title="Services" head={['Service', 'Processor', 'Share', 'Memory, mean', 'Bytes']}>
                {costs.services
                  .toSorted((a, b) => b.cpu_seconds - a.cpu_seconds)
                  .map((own) => (
                    <tr key={own.name}>
                      <td>
                        <Link to={`/services/${own.name}`}>{own.name}</Link>
                      </td>
                      <td className="right num">{cpu(own.cpu_seconds)}</td>
                      <td className="right num">{percent(total > 0 ? own.cpu_seconds / total : 0)}</td>
                      <td className="right num">{bytes(own.memory_byte_seconds / seconds)}</td>
                      <td className="right num">{bytes(own.bytes)}</td>
                    </tr>
                  ))}
              </Table>
              <Table title="Routes" head={['Route', ...SHARE]}>
                {costs.routes
                  .toSorted((a, b) => b.cpu_seconds - a.cpu_seconds)
                  .slice(0, SHOWN)
                  .map((own) => (
                    <Share key={`${own.service}-${own.route}`} of={own} seconds={seconds}>
                      <b>{own.service}</b> <span className="mono">{oneLine(own.route, 120)}</span>
                    </Share>
                  ))}
              </Table>
              <Table title="Callers" head={['Caller → called', ...SHARE]}>
                {costs.callers
                  .toSorted((a, b) => b.cpu_seconds - a.cpu_seconds)
                  .slice(0, SHOWN)
                  .map((own) => (
                    <Share key={`${own.caller}-${own.callee}`} of={own} seconds={seconds}>
                      {own.caller} → {own.callee}
                    </Share>
                  ))}
              </Table>
            </>
          );
        }}
      </Given>
    </>
  );
}

/** What was shared out to a route or a caller. */
function Share({ of, seconds, children }: { of: CostsView['routes' | 'callers'][number]; seconds: number; children: ReactNode }) {
  return (
    <tr>
      <td>{children}</td>
      <td className="right num">{count(of.requests)}</td>
      <td className="right num">{cpu(of.cpu_seconds)}</td>
      <td className="right num">{each(of.cpu_seconds, of.requests)}</td>
      <td className="right num">{bytes(of.memory_byte_seconds / seconds)}</td>
      <td className="right num">{bytes(of.bytes)}</td>
    </tr>
  );
}

function cpu(seconds: number): string {
  return duration(seconds * 1e6);
}

function each(seconds: number, requests: number): string {
  return requests === 0 ? '–' : duration((seconds / requests) * 1e6);
}

function Chatty({ costs }: { costs: CostsView }) {
  return (
    <section className="panel" aria-labelledby="chatty">
      <header>
        <h2 id="chatty">Asks too often</h2>
      </header>
      <ul className="pad routes">
        {costs.chatty.map((own) => (
          <li key={`${own.caller}-${own.callee}`}>
            <b>{own.caller}</b> calls <b>{own.callee}</b> {number(own.calls_per_request)} times for one request of its own. One call for all would do. {own.trace && <Link to={`/traces/${own.trace}`}>See a trace</Link>}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Table({ title, head, children }: { title: string; head: string[]; children: ReactNode[] }) {
  return (
    <section className="panel" aria-label={title}>
      <header>
        <h2>{title}</h2>
      </header>
      {children.length === 0 ? (
        <Empty title="Nothing in this time" />
      ) : (
        <div className="scroll-x" tabIndex={0} role="region" aria-label={`${title}, table`}>
          <table>
            <thead>
              <tr>
                {head.map((name, at) => (
                  <th key={name} className={at === 0 ? '' : 'right'}>
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>{children}</tbody>
          </table>
        </div>
      )}
    </section>
  );
}
