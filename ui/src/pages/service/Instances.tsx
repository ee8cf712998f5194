// The instances of a service, with live processor and memory use; of those that are not well, what
// they printed last.
import type { ServiceView } from '../../api/types';
import { useLive } from '../../app/live';
import { Link } from '../../app/router';
import { bytes, number } from '../../lib/format';
import { cut, inert } from '../../lib/text';
import { State, Tag } from '../../ui/Badges';
import { Empty } from '../../ui/Notes';
import { Spark } from '../../ui/Spark';
import { Ago } from '../../ui/Time';

export function Instances({ service }: { service: ServiceView }) {
  const { cpu, past } = useLive();
  const ill = service.instances.filter((own) => own.reason !== null || own.last_lines.length > 0);
  return (
    <section className="panel" aria-labelledby="instances">
      <header>
        <h2 id="instances">
          Instances <span className={service.serving < service.wanted ? 'bad' : 'dim'}>{`${service.serving} of ${service.wanted} serve`}</span>
        </h2>
      </header>
      {service.instances.length === 0 ? (
        <Empty title="It has no instances">Scale it up, or look at its deployments for a failure.</Empty>
      ) : (
        <div className="scroll-x">
          <table>
            <thead>
              <tr>
                <th>Instance</th>
                <th>State</th>
                <th className="right">Processor</th>
                <th className="wide">
                  <span className="unseen">Processor lately</span>
                </th>
                <th className="right">Memory</th>
                <th className="right wide">Restarts</th>
                <th className="wide">Since</th>
                <th className="wide">Address</th>
                <th className="right wide">Process</th>
              </tr>
            </thead>
            <tbody>
              {service.instances.map((own) => (
                <tr key={own.id}>
                  <td className="mono">
                    <Link to={`/logs?q=instance:${own.id}`} title="Its lines">
                      {own.id}
                    </Link>
                  </td>
                  <td>
                    <State state={own.state} /> {own.state === 'ready' && !own.serving && <Tag tone="warn">no requests</Tag>}
                  </td>
                  <td className="right num">{number(Math.round((cpu[own.id] ?? 0) * 1000) / 10)} %</td>
                  <td className="wide">
                    <Spark values={past[own.id]?.cpu ?? []} />
                  </td>
                  <td className="right num">{bytes(own.memory)}</td>
                  <td className={own.restarts > 0 ? 'right num wide warn' : 'right num wide dim'}>{own.restarts}</td>
                  <td className="wide">
                    <Ago time={own.since} />
                  </td>
                  <td className="mono wide">{own.address ?? <span className="dim">–</span>}</td>
                  <td className="right num wide">{own.pid ?? <span className="dim">–</span>}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {ill.map((own) => (
        <div key={own.id} className="pad ill">
          <p>
            <b>{own.id}</b> <span className="bad">{inert(own.reason ?? '')}</span>
          </p>
          {own.last_lines.length > 0 && (
            <pre className="block" tabIndex={0} aria-label={`Last lines of ${own.id}`}>
              {own.last_lines.map((line) => cut(line, 2000).text).join('\n')}
            </pre>
          )}
        </div>
      ))}
    </section>
  );
}
