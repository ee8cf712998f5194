// Who reads what, how far behind, and what hinders them. A subscription can have records again.
import { useState } from 'react';
import { send } from '../../api/client';
import { at } from '../../api/paths';
import type { ReaderView } from '../../api/types';
import { useApi } from '../../api/use';
import { Link } from '../../app/router';
import { useMay } from '../../app/session';
import { count, plural } from '../../lib/format';
import { oneLine } from '../../lib/text';
import { Ask } from '../../ui/Ask';
import { Tag } from '../../ui/Badges';
import { Field } from '../../ui/Field';
import { Empty, Given } from '../../ui/Notes';
import { Ago } from '../../ui/Time';
import { toast } from '../../ui/Toast';

export function Readers({ topic }: { topic?: string }) {
  const found = useApi(at('/v1/readers'), 5000);
  const mayAct = useMay('operator');
  return (
    <section className="panel scroll-x" aria-label="Readers" tabIndex={0}>
      <Given of={found}>
        {(all) => {
          const own = topic === undefined ? all : all.filter((reader) => reader.topic === topic);
          if (own.length === 0) return <Empty title="Nobody reads">A [[subscribe]] in a service.toml, or a Kafka client with a group, would.</Empty>;
          return (
            <table className="cards">
              <thead>
                <tr>
                  <th>Reader</th>
                  {topic === undefined && <th>Topic</th>}
                  <th className="right">Behind</th>
                  <th className="right wide">Under way</th>
                  <th className="right wide">Keys failing</th>
                  <th className="right wide">Taken</th>
                  <th className="right">Dead</th>
                  <th>Trouble</th>
                  {mayAct && (
                    <th>
                      <span className="unseen">Actions</span>
                    </th>
                  )}
                </tr>
              </thead>
              <tbody>
                {own.map((reader) => (
                  <tr key={`${reader.name}-${reader.topic}`}>
                    <td>
                      {reader.pushed ? <Link to={`/services/${reader.name}`}>{reader.name}</Link> : reader.name} <Tag>{reader.pushed ? 'pushed' : 'group'}</Tag>
                    </td>
                    {topic === undefined && (
                      <td>
                        <Link to={`/events/topics/${encodeURIComponent(reader.topic)}`}>{reader.topic}</Link>
                      </td>
                    )}
                    <td data-label="behind" className={reader.lag > 1000 ? 'right num warn' : 'right num'}>{count(reader.lag)}</td>
                    <td className="right num wide">{reader.in_flight}</td>
                    <td className={reader.failing > 0 ? 'right num wide bad' : 'right num wide dim'}>{reader.failing}</td>
                    <td className="right num wide">{count(reader.taken)}</td>
                    <td data-label="dead" className="right num">{reader.dead > 0 ? <Link to={`/events/dead?service=${reader.name}`}>{reader.dead}</Link> : <span className="dim">0</span>}</td>
                    <td className="trouble-cell" data-label="trouble">
                      {reader.trouble === null ? (
                        <span className="dim">none</span>
                      ) : (
                        <>
                          {oneLine(reader.trouble, 200)}{' '}
                          <span className="dim small">
                            {reader.trouble_at !== null && <Ago time={reader.trouble_at} suffix />}
                            {reader.paused_until !== null && ', paused'}
                          </span>
                        </>
                      )}
                    </td>
                    {mayAct && <td className="right">{reader.pushed && <Replay reader={reader} />}</td>}
                  </tr>
                ))}
              </tbody>
            </table>
          );
        }}
      </Given>
    </section>
  );
}

function Replay({ reader }: { reader: ReaderView }) {
  const [from, setFrom] = useState('');
  const run = async () => {
    const done = await send('POST', '/v1/readers/{service}/{topic}/replay', { service: reader.name, topic: reader.topic }, {
      from: new Date(from).toISOString(),
    });
    toast(`${reader.name} gets ${plural(done.records, 'record')} again`);
  };
  return (
    <Ask label="Replay" className="btn btn-small" danger title={`Deliver ${reader.topic} to ${reader.name} again?`} onOpen={() => setFrom(localNow())} run={run}>
      <p>All records since this moment are delivered again, to {reader.name} only. It does twice what it did, unless it knows records that it has had.</p>
      <Field label="Since" hint="In your time zone.">
        {(id) => <input id={id} type="datetime-local" required value={from} onChange={(event) => setFrom(event.target.value)} />}
      </Field>
    </Ask>
  );
}

/** An hour ago, as the field wants it. */
function localNow(): string {
  const date = new Date(Date.now() - 3_600_000);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
